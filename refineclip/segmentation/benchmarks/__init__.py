"""Published benchmarks: their words, data sets, label files and metric."""

from .benchmark import PROTOCOLS, Benchmark
from .catalogue import BENCHMARKS, get_benchmark, parse_benchmarks
from .datasets import (
    ADE20K847Dataset,
    CATSegContext59Dataset,
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
    'PROTOCOLS',
    'ADE20K847Dataset',
    'Benchmark',
    'CATSegContext59Dataset',
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
