"""Images of one tower as another one wants them: its normalisation, its patch, the same grid."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from refineclip.encoders.towers.dense_vit import DenseViT


def as_seen_by(
    teacher: DenseViT,
    images: Tensor,
    mean: Sequence[float],
    std: Sequence[float],
    patch_size: int,
) -> Tensor:
    """Give a teacher the images of a student, so that both maps have one grid.

    Pixels are recovered, resized to the student's grid times the teacher's patch, and normalised
    anew. Boxes in [0, 1] of the canvas stay true, and black padding stays black.

    Args:
        teacher: The tower that is to look.
        images: (B, 3, H, W), normalised with ``mean`` and ``std``; H and W are multiples of
            ``patch_size``.
        mean: Mean of the RGB channels, in [0, 1].
        std: Standard deviation of the RGB channels, in [0, 1].
        patch_size: The student's patch, in pixels.

    Returns:
        (B, 3, H / patch_size * teacher.patch_size, ...); ``images`` themselves where nothing
        differs.
    """
    ours, theirs = (*mean, *std), (*teacher.image_mean, *teacher.image_std)
    same_pixels = all(abs(a - b) < 1e-6 for a, b in zip(ours, theirs, strict=True))
    if same_pixels and patch_size == teacher.patch_size:
        return images
    old_mean, old_std, new_mean, new_std = (
        torch.tensor(values, dtype=images.dtype, device=images.device).view(3, 1, 1)
        for values in (mean, std, teacher.image_mean, teacher.image_std)
    )
    pixels = images * old_std + old_mean
    if patch_size != teacher.patch_size:
        size = [side // patch_size * teacher.patch_size for side in images.shape[2:]]
        pixels = F.interpolate(pixels, size, mode='bicubic', antialias=True)
        pixels = pixels.clamp(0, 1)  # bicubic overshoots at edges
    return (pixels - new_mean) / new_std
