"""CAUSE, unsupervised semantic segmentation on frozen features: models, data sets and metric."""

from .cluster_probe import CauseClusterProbe
from .codebook_training import CauseCodebookTraining
from .datasets import Cityscapes27, CocoStuff27
from .front_door import CauseFrontDoor
from .hungarian_metric import HungarianSegMetric
from .segment_heads import CauseMLPHead, CauseTransformerHead

__all__ = [
    'CauseClusterProbe',
    'CauseCodebookTraining',
    'CauseFrontDoor',
    'CauseMLPHead',
    'CauseTransformerHead',
    'Cityscapes27',
    'CocoStuff27',
    'HungarianSegMetric',
]
