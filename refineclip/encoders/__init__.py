"""Encoders: any CLIP-like ViT with dense maps, its Refiner, and the backbone for mm* configs."""

from .build import build_clip
from .dense_clip import DenseCLIP
from .refiner import Refiner
from .refiner_clip import RefinerCLIP
from .towers.dense_modes import dense_mode, get_dense_mode, list_dense_modes
from .towers.dense_vit import DenseViT

__all__ = [
    'DenseCLIP',
    'DenseViT',
    'Refiner',
    'RefinerCLIP',
    'build_clip',
    'dense_mode',
    'get_dense_mode',
    'list_dense_modes',
]
