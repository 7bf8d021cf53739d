"""Vision towers of open_clip and timm under one dense protocol, and what their last block does."""

from .blocks import BlockView
from .dense_modes import dense_mode, get_dense_mode, list_dense_modes
from .dense_vit import DenseViT
from .open_clip_vit import OpenCLIPViT
from .timm_vit import TimmViT

__all__ = [
    'BlockView',
    'DenseViT',
    'OpenCLIPViT',
    'TimmViT',
    'dense_mode',
    'get_dense_mode',
    'list_dense_modes',
]
