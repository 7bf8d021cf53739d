"""Measures of encoders: regions, spatial awareness, image level. Importing this registers metrics.

``spatial.measures`` and ``spatial.suite`` need scikit-learn, so they are imported by their own
names only.
"""

from .bootstrap import ImageScores, PairedDifference, paired_bootstrap
from .encoders import load_encoders
from .image_level import ImageLevelHook
from .panoptic_dataset import PanopticEvaluationDataset
from .panoptic_evaluation import PanopticEvaluation
from .panoptic_metrics import RegionAccuracyMetric, SpatialAwarenessMetric
from .regions import (
    CLIPSELF,
    OURS,
    RegionAccuracy,
    RegionRules,
    region_accuracy,
    region_rules,
)
from .spatial import map_labels, patch_segments

__all__ = [
    'CLIPSELF',
    'OURS',
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
    'region_rules',
]
