"""Losses of the two stages: plain functions, wrapped by registered modules."""

from .refine_loss import RefineLoss
from .retention_loss import RetentionLoss
from .rla_loss import CLIPSelfLoss, RegionTextLoss
from .scd_loss import SCDLoss, scd_loss, spatial_correlation

__all__ = [
    'CLIPSelfLoss',
    'RefineLoss',
    'RegionTextLoss',
    'RetentionLoss',
    'SCDLoss',
    'scd_loss',
    'spatial_correlation',
]
