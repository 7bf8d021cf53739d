"""Averaging the map over shifts of the image: finer tokens without training."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from refineclip.encoders.towers.dense_vit import DenseViT


class ShiftAveraging(nn.Module):
    """Mean of the dense maps of an image under shifts of less than a patch, moved back.

    A rival that costs nothing but passes: borders of patches fall elsewhere in every pass.

    Args:
        encoder: With ``visual``, ``dense`` and ``image_embedding``.
        num_shifts: Shifts along either side, from 0 in equal steps of a patch; their square is the
            number of passes.

    Raises:
        ValueError: If there is no shift, or more than the patch has pixels.
    """

    def __init__(self, encoder: Any, num_shifts: int = 2) -> None:
        super().__init__()
        visual: DenseViT = encoder.visual
        if not 1 <= num_shifts <= visual.patch_size:
            raise ValueError(
                f'shifts: expected 1 to {visual.patch_size}, the patch, got {num_shifts}'
            )
        self.encoder: Any = encoder
        self.num_shifts, self.patch_size = num_shifts, visual.patch_size
        self.image_mean, self.image_std = visual.image_mean, visual.image_std

    def dense(self, images: Tensor) -> Tensor:
        """Map normalised images (B, 3, H, W) to (B, D, h, w), unit vectors before the mean."""
        offsets = [step * self.patch_size // self.num_shifts for step in range(self.num_shifts)]
        total = sum(self._shifted(images, down, right) for down in offsets for right in offsets)
        return torch.as_tensor(total) / self.num_shifts**2

    def _shifted(self, images: Tensor, down: int, right: int) -> Tensor:
        """Map of the image moved down and right by pixels, and moved back."""
        height, width = images.shape[-2:]
        # Edge pixels repeat: black would be seen as an object.
        moved = F.pad(images, (right, 0, down, 0), mode='replicate')[..., :height, :width]
        dense = F.normalize(self.encoder.dense(moved), dim=1)
        if down == right == 0:
            return dense
        rows, columns = dense.shape[-2:]
        ys, xs = (
            (2 * (torch.arange(count, device=dense.device) + 0.5 + offset / self.patch_size))
            / count
            - 1
            for count, offset in ((rows, down), (columns, right))
        )
        grid = torch.stack(torch.meshgrid(xs, ys, indexing='xy'), dim=-1)
        return F.grid_sample(
            dense,
            grid.expand(len(dense), -1, -1, -1).to(dense.dtype),
            padding_mode='border',
            align_corners=False,
        )

    def image_embedding(self, images: Tensor) -> Tensor:
        """The image embedding (B, D) of the encoder."""
        embedding: Tensor = self.encoder.image_embedding(images)
        return embedding
