"""The dense map of a large image out of windows of the size that a tower was trained at."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F


def window_starts(side: int, window: int, stride: int) -> list[int]:
    """First pixels of the windows along one side; the last window ends where the image does.

    Args:
        side: Pixels of the image.
        window: Pixels of a window.
        stride: Pixels from one window to the next.

    Raises:
        ValueError: If the window is larger than the image, or the stride is not positive.
    """
    if not 0 < window <= side:
        raise ValueError(f'expected windows of at most the image, {side} px, got {window} px')
    if stride < 1:
        raise ValueError(f'stride: expected pixels >= 1, got {stride}')
    starts = list(range(0, side - window + 1, stride))
    return starts if starts[-1] == side - window else [*starts, side - window]


@torch.no_grad()
def sliding_window_map(
    dense: Callable[[Tensor], Tensor],
    images: Tensor,
    window: int,
    stride: int,
    patch_size: int,
    max_windows: int = 64,
) -> Tensor:
    """Average the maps of overlapping windows.

    Each token is seen in many contexts, all of them near to it. Where the stride is no multiple of
    the patch, maps are enlarged bilinearly to a common finer grid, and the average comes back to
    the patches.

    Args:
        dense: Maps normalised images (b, 3, window, window) to (b, D, g, g), not normalised.
        images: (B, 3, H, W) normalised, H and W multiples of the patch.
        window: Side of a window in pixels, a multiple of the patch.
        stride: Pixels from one window to the next.
        patch_size: Pixels of a patch.
        max_windows: Windows that run together.

    Returns:
        (B, D, H / patch_size, W / patch_size), float32.
    """
    height, width = images.shape[2:]
    unit = math.gcd(patch_size, stride)  # pixels of a cell of the finer grid
    cells = window // unit
    places = [
        (image, top, left)
        for top in window_starts(height, window, stride)
        for left in window_starts(width, window, stride)
        for image in range(len(images))
    ]
    total, count = None, images.new_zeros(len(images), 1, height // unit, width // unit)
    for first in range(0, len(places), max_windows):
        part = places[first : first + max_windows]
        views = [images[i, :, top : top + window, left : left + window] for i, top, left in part]
        maps = dense(torch.stack(views)).float()
        if maps.shape[-1] != cells:
            maps = F.interpolate(maps, (cells, cells), mode='bilinear')
        if total is None:
            total = maps.new_zeros(len(images), maps.shape[1], *count.shape[2:])
        for (image, top, left), one in zip(part, maps, strict=True):
            rows = slice(top // unit, top // unit + cells)
            columns = slice(left // unit, left // unit + cells)
            total[image, :, rows, columns] += one
            count[image, :, rows, columns] += 1
    assert total is not None  # there is an image and a window
    return F.adaptive_avg_pool2d(total / count, (height // patch_size, width // patch_size))
