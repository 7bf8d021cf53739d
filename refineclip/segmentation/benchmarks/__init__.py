"""Published benchmarks: their words, data sets, label files and metric."""

from .benchmark import Benchmark
from .catalogue import BENCHMARKS, CAT_SEG, GROUPS, TRAINING_FREE, get_benchmark, parse_benchmarks
from .datasets import (
    ADE20K847Dataset,
    COCOObjectDataset,
    CocoPanopticSegDataset,
    PascalContext459Dataset,
    PascalVOC20bDataset,
    PascalVOC20Dataset,
)
from .loading import LoadSegLabels
from .microworld_dataset import MicroworldSegDataset
from .vocabulary_iou import VocabularyIoUMetric

__all__ = [
    'BENCHMARKS',
    'CAT_SEG',
    'GROUPS',
    'TRAINING_FREE',
    'ADE20K847Dataset',
    'Benchmark',
    'COCOObjectDataset',
    'CocoPanopticSegDataset',
    'LoadSegLabels',
    'MicroworldSegDataset',
    'PascalContext459Dataset',
    'PascalVOC20Dataset',
    'PascalVOC20bDataset',
    'VocabularyIoUMetric',
    'get_benchmark',
    'parse_benchmarks',
]
