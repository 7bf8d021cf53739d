"""Losses of the two stages: plain functions, wrapped by registered modules."""

from .correlation_loss import CorrelationLoss, correlation_loss, shows_picture
from .refine_loss import RefineLoss
from .retention_loss import RetentionLoss
from .rla_loss import CLIPSelfLoss, RegionTextLoss
from .scd_loss import SCDLoss, scd_loss, spatial_correlation

__all__ = [
    'CLIPSelfLoss',
    'CorrelationLoss',
    'RefineLoss',
    'RegionTextLoss',
    'RetentionLoss',
    'SCDLoss',
    'correlation_loss',
    'scd_loss',
    'shows_picture',
    'spatial_correlation',
]
