"""CAT-Seg (CVPR 2024): cost aggregation over a CLIP that is tuned in part."""

from .head import CostAggregationHead
from .pixel_bce_loss import PixelBCELoss
from .prompted_text import PromptedTextEncoder
from .segmentor import CATSeg

__all__ = ['CATSeg', 'CostAggregationHead', 'PixelBCELoss', 'PromptedTextEncoder']
