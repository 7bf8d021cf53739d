"""Open-vocabulary segmentation on mmseg. Importing this registers it."""

import refineclip.mmcv_ops  # noqa: F401  (before mmdet and mmseg are imported)

from .benchmarks import (
    BENCHMARKS,
    ADE20K847Dataset,
    Benchmark,
    CATSegContext59Dataset,
    COCOObjectDataset,
    CocoPanopticSegDataset,
    LoadSegLabels,
    MicroworldSegDataset,
    PascalContext459Dataset,
    PascalVOC20bDataset,
    PascalVOC20Dataset,
    VocabularyIoUMetric,
    get_benchmark,
)
from .cat_seg import CATSeg, CostAggregationHead, PixelBCELoss, PromptedTextEncoder
from .inference import build_text_segmentor, load_segmentor, segment_image
from .label_hook import LabelMapHook
from .training_free import TextSegmentor, UntrainedModelWrapper
from .vocabulary_hook import VocabularyHook

__all__ = [
    'BENCHMARKS',
    'ADE20K847Dataset',
    'Benchmark',
    'CATSeg',
    'CATSegContext59Dataset',
    'COCOObjectDataset',
    'CocoPanopticSegDataset',
    'CostAggregationHead',
    'LabelMapHook',
    'LoadSegLabels',
    'MicroworldSegDataset',
    'PascalContext459Dataset',
    'PascalVOC20Dataset',
    'PascalVOC20bDataset',
    'PixelBCELoss',
    'PromptedTextEncoder',
    'TextSegmentor',
    'UntrainedModelWrapper',
    'VocabularyHook',
    'VocabularyIoUMetric',
    'build_text_segmentor',
    'get_benchmark',
    'load_segmentor',
    'segment_image',
]
