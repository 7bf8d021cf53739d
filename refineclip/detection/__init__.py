"""Open-vocabulary detection: F-ViT on mmdet 3.x, around a frozen RefinerCLIP. Needs mmdet."""

import refineclip.mmcv_ops  # noqa: F401  (before mmdet and mmseg are imported)

from .fvit import FViT
from .fvit_bbox_head import FViTBBoxHead
from .fvit_roi_head import FViTRoIHead
from .inferencer import OVDetInferencer
from .normed_rpn_head import NormedRPNHead
from .ov_datasets import OVCocoDataset, OVLVISDataset
from .ov_metrics import FastLVISMetric, FastOVCocoMetric
from .score_fusion import fuse_scores
from .text_classifier import TextClassifier
from .upsample_stem import UpsampleStem
from .vocabulary_hook import DetVocabularyHook

__all__ = [
    'DetVocabularyHook',
    'FViT',
    'FViTBBoxHead',
    'FViTRoIHead',
    'FastLVISMetric',
    'FastOVCocoMetric',
    'NormedRPNHead',
    'OVCocoDataset',
    'OVDetInferencer',
    'OVLVISDataset',
    'TextClassifier',
    'UpsampleStem',
    'fuse_scores',
]
