"""The method: regions, losses, the two training stages and their hooks."""

from .hooks import AtomicCheckpointHook, SCDHook, WeightEnsembleHook
from .losses import (
    CLIPSelfLoss,
    CorrelationLoss,
    RefineLoss,
    RegionTextLoss,
    RetentionLoss,
    SCDLoss,
)
from .refiner_training import RefinerTraining
from .region_alignment import RegionAlignment
from .region_preprocessor import RegionPreprocessor
from .regions import GridRegions, ProposalRegions, RandomCropRegions

__all__ = [
    'AtomicCheckpointHook',
    'CLIPSelfLoss',
    'CorrelationLoss',
    'GridRegions',
    'ProposalRegions',
    'RandomCropRegions',
    'RefineLoss',
    'RefinerTraining',
    'RegionAlignment',
    'RegionPreprocessor',
    'RegionTextLoss',
    'RetentionLoss',
    'SCDHook',
    'SCDLoss',
    'WeightEnsembleHook',
]
