"""Measures of dense maps and regions.

``spatial_awareness`` needs scikit-learn, so it is imported by its own name only.
"""

from .bootstrap import ImageScores, PairedDifference, paired_bootstrap
from .patch_labels import map_labels, patch_segments
from .region_accuracy import RegionAccuracy, region_accuracy

__all__ = [
    'ImageScores',
    'PairedDifference',
    'RegionAccuracy',
    'map_labels',
    'paired_bootstrap',
    'patch_segments',
    'region_accuracy',
]
