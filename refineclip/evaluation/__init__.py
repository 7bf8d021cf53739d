"""Measures of encoders: regions, spatial awareness, image level. Importing this registers metrics.

``spatial_awareness`` and ``spatial_suite`` need scikit-learn, so they are imported by their own
names only.
"""

from .bootstrap import ImageScores, PairedDifference, paired_bootstrap
from .encoders import load_encoders
from .image_level_hook import ImageLevelHook
from .panoptic_dataset import PanopticEvaluationDataset
from .panoptic_evaluation import PanopticEvaluation
from .panoptic_metrics import RegionAccuracyMetric, SpatialAwarenessMetric
from .panoptic_regions import RegionRules
from .patch_labels import map_labels, patch_segments
from .region_accuracy import RegionAccuracy, region_accuracy

__all__ = [
    'ImageLevelHook',
    'ImageScores',
    'PairedDifference',
    'PanopticEvaluation',
    'PanopticEvaluationDataset',
    'RegionAccuracy',
    'RegionAccuracyMetric',
    'RegionRules',
    'SpatialAwarenessMetric',
    'load_encoders',
    'map_labels',
    'paired_bootstrap',
    'patch_segments',
    'region_accuracy',
]
