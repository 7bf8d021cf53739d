"""RoIAlign on dense maps, with boxes relative to the map."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.ops import roi_align


def pool_regions(maps: Tensor, boxes: Tensor, output_size: int) -> Tensor:
    """Pool regions out of dense maps with RoIAlign (aligned, adaptive sampling, as CLIPSelf pools).

    Torchvision's operator is used rather than mmcv's, so that training needs no compiled mm ops.

    Args:
        maps: Dense maps of shape (B, C, h, w).
        boxes: (R, 5) rows of ``[image index, x1, y1, x2, y2]``, coordinates in [0, 1] of the maps'
            canvas.
        output_size: Side s of the pooled square grid.

    Returns:
        Pooled features of shape (R, C, s, s), float32.
    """
    height, width = maps.shape[-2:]
    boxes = boxes.float() * boxes.new_tensor([1, width, height, width, height])
    # In float32: half precision would move box edges by a good part of a token.
    return roi_align(maps.float(), boxes, output_size, sampling_ratio=-1, aligned=True)


def pool_tokens(maps: Tensor, boxes: Tensor, output_size: int) -> Tensor:
    """Like :func:`pool_regions`, as token lists: (R, L, C) with L = output_size ** 2, row-major."""
    return pool_regions(maps, boxes, output_size).flatten(2).transpose(1, 2)


def full_boxes(batch_size: int, device: torch.device) -> Tensor:
    """One box per image that covers its whole canvas, shape (B, 5)."""
    boxes = torch.tensor([[0.0, 0.0, 0.0, 1.0, 1.0]], device=device).repeat(batch_size, 1)
    boxes[:, 0] = torch.arange(batch_size, device=device)
    return boxes
