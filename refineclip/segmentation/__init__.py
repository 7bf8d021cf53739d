"""Open-vocabulary segmentation on mmseg. Importing this registers it."""

from refineclip.segmentation.benchmark import Benchmark
from refineclip.segmentation.benchmarks import BENCHMARKS, get_benchmark
from refineclip.segmentation.cat_seg import CATSeg
from refineclip.segmentation.cost_aggregation_head import CostAggregationHead
from refineclip.segmentation.datasets import (
    ADE20K847Dataset,
    COCOObjectDataset,
    CocoPanopticSegDataset,
    PascalContext459Dataset,
    PascalVOC20bDataset,
    PascalVOC20Dataset,
)
from refineclip.segmentation.inference import (
    build_text_segmentor,
    load_segmentor,
    segment_image,
)
from refineclip.segmentation.loading import LoadSegLabels
from refineclip.segmentation.microworld_dataset import MicroworldSegDataset
from refineclip.segmentation.pixel_bce_loss import PixelBCELoss
from refineclip.segmentation.prompted_text import PromptedTextEncoder
from refineclip.segmentation.text_segmentor import TextSegmentor
from refineclip.segmentation.untrained_wrapper import UntrainedModelWrapper
from refineclip.segmentation.vocabulary_hook import VocabularyHook
from refineclip.segmentation.vocabulary_iou import VocabularyIoUMetric

__all__ = [
    'BENCHMARKS',
    'ADE20K847Dataset',
    'Benchmark',
    'CATSeg',
    'COCOObjectDataset',
    'CocoPanopticSegDataset',
    'CostAggregationHead',
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
