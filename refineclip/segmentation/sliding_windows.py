"""Windows over an image, as mmseg slides them, and folding their scores back."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

Window = tuple[int, int, int, int]


def window_boxes(
    size: tuple[int, int], crop_size: tuple[int, int], stride: tuple[int, int]
) -> list[Window]:
    """Place windows as mmseg's ``slide_inference``: the last ones are moved inside, not padded.

    Args:
        size: Height and width of the image in pixels.
        crop_size: Those of a window; an image that is smaller gets a smaller window.
        stride: Pixels between windows, down and across.

    Returns:
        (top, left, bottom, right) of each window, row by row.
    """
    starts = []
    for length, crop, step in zip(size, crop_size, stride, strict=True):
        last = max(length - crop, 0)
        count = -(-last // step) + 1
        starts.append([min(index * step, last) for index in range(count)])
    height, width = (min(pair) for pair in zip(size, crop_size, strict=True))
    return [(top, left, top + height, left + width) for top in starts[0] for left in starts[1]]


def cut_windows(image: Tensor, boxes: Sequence[Window]) -> Tensor:
    """Cut windows (n, C, h, w) of equal size out of one image (C, H, W)."""
    return torch.stack([image[:, top:bottom, left:right] for top, left, bottom, right in boxes])


def fold_windows(
    scores: Tensor, boxes: Sequence[Window], size: tuple[int, int], extent: tuple[int, int]
) -> Tensor:
    """Average the windows' scores over the image.

    Args:
        scores: (n, Q, h, w), each window's scores at any resolution; they are resized (bilinear).
        boxes: The n windows, which cover the image.
        size: Height and width of the image in pixels.
        extent: Height and width in pixels that the scores stand for, from a window's upper left
            corner: the window, or more where it was padded.

    Returns:
        (Q, H, W).
    """
    total = scores.new_zeros(scores.shape[1], *size)
    count = scores.new_zeros(size)
    for own, (top, left, bottom, right) in zip(scores, boxes, strict=True):
        area = (slice(top, bottom), slice(left, right))
        pixels = resize(own[None], extent)[0, :, : bottom - top, : right - left]
        total[:, area[0], area[1]] += pixels
        count[area] += 1
    return total.div_(count)


def resize(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize (B, C, h, w) to (B, C, H, W), bilinear as mmseg, corners not aligned."""
    if tuple(maps.shape[2:]) == tuple(size):
        return maps
    return F.interpolate(maps, size, mode='bilinear', align_corners=False)
