"""Resizing a position embedding to another token grid, as each family's published code does."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch.nn.functional as F
from torch import Tensor

Grid = tuple[int, int]
Resize = Callable[[Tensor, Grid], Tensor]


def _with_offset(position: Tensor, grid: Grid) -> Tensor:
    """Bicubic whose scale is that of a grid larger by 0.1, as DINOv2's models without registers."""
    factors = [(new + 0.1) / old for new, old in zip(grid, position.shape[2:], strict=True)]
    return F.interpolate(position, scale_factor=factors, mode='bicubic')


def _square_then_crop(position: Tensor, grid: Grid, align_corners: bool) -> Tensor:
    """Resize to a square of the longer side and keep its top left, as RADIO does."""
    side = max(grid)
    square = F.interpolate(
        position, size=(side, side), mode='bilinear', align_corners=align_corners
    )
    return square[:, :, : grid[0], : grid[1]]


# (1, W, h, w) and the new grid in, (1, W, h', w') out. PyTorch's bicubic has a = -0.75, its
# antialiased one a = -0.5, also when it enlarges.
POSITION_INTERPOLATIONS: dict[str, Resize] = {
    'bicubic': partial(F.interpolate, mode='bicubic'),
    'bicubic-antialias': partial(F.interpolate, mode='bicubic', antialias=True),
    'bicubic-offset': _with_offset,
    'bilinear': partial(F.interpolate, mode='bilinear'),
    'bilinear-antialias': partial(F.interpolate, mode='bilinear', antialias=True),
    'bilinear-crop': partial(_square_then_crop, align_corners=False),
    'bilinear-crop-corners': partial(_square_then_crop, align_corners=True),
}

# First match of a part of timm's architecture name.
_OF_ARCHITECTURES = (
    ('tipsv2', 'bilinear-antialias'),  # tips/pytorch/image_encoder.py
    ('vit_pe_', 'bilinear'),  # perception_models/core/vision_encoder/pe.py
    # The code beside each checkpoint on the hub, as recorded by timm.
    ('base_patch16_radio_v3', 'bilinear-crop-corners'),
    ('huge_patch16_radio_v3', 'bilinear-crop-corners'),
    ('radio_v', 'bilinear-crop'),
    ('eva02', 'bicubic'),  # CLIPSelf, src/open_clip/eva_clip/eva_vit_model.py
    ('_clip_', 'bicubic'),  # OpenAI's and OpenCLIP's ViTs, built by timm
    ('_mci_', 'bicubic'),  # MobileCLIP's ViT; its own code resizes the flattened grid
)


def default_position_interpolation(architecture: str) -> str:
    """Return the interpolation of a timm architecture's published code.

    Args:
        architecture: timm's name without tag.

    Returns:
        A key of ``POSITION_INTERPOLATIONS``; timm's own ``'bicubic-antialias'`` for SigLIP and
        whatever is not listed.
    """
    found = (name for part, name in _OF_ARCHITECTURES if part in architecture)
    return next(found, 'bicubic-antialias')


def check_position_interpolation(name: str) -> str:
    """Return the name of an interpolation.

    Raises:
        ValueError: If there is none of that name.
    """
    if name not in POSITION_INTERPOLATIONS:
        raise ValueError(
            f'position_interpolation: expected one of {list(POSITION_INTERPOLATIONS)}, got {name!r}'
        )
    return name


def resize_position(position: Tensor, old: Grid, new: Grid, name: str) -> Tensor:
    """Resize the position embedding of patch tokens; in float32, whatever its type.

    Args:
        position: ``(1, h * w, W)``, without prefix tokens.
        old: Its grid (h, w).
        new: Grid (h', w') of the result; equal grids return the embedding untouched.
        name: Key of ``POSITION_INTERPOLATIONS``.

    Returns:
        ``(1, h' * w', W)``.
    """
    if old == new:
        return position
    grid = position.float().transpose(1, 2).unflatten(2, old)
    resized = POSITION_INTERPOLATIONS[name](grid, new)
    return resized.flatten(2).transpose(1, 2).to(position.dtype)
