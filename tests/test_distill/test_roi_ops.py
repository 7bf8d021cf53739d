"""RoIAlign in the frame of the map: hand-worked bins, axes, precision."""

from __future__ import annotations

import torch

from refineclip.distill.roi_ops import full_boxes, pool_regions, pool_tokens


def ramp(height: int = 8, width: int = 12) -> torch.Tensor:
    """Two channels: the x and the y coordinate of each token's centre, in tokens."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing='ij')
    return torch.stack([x, y]).float()[None] + 0.5


def test_bins_of_an_aligned_box():
    """Tokens 2..5 in x and 4..5 in y: bin centres at 3, 5 and 4.5, 5.5."""
    boxes = torch.tensor([[0, 2 / 12, 4 / 8, 6 / 12, 6 / 8]])
    pooled = pool_regions(ramp(), boxes, 2)[0]
    torch.testing.assert_close(pooled[0], torch.tensor([[3.0, 5.0], [3.0, 5.0]]))
    torch.testing.assert_close(pooled[1], torch.tensor([[4.5, 4.5], [5.5, 5.5]]))


def test_tokens_are_row_major():
    tokens = pool_tokens(ramp(), torch.tensor([[0, 2 / 12, 4 / 8, 6 / 12, 6 / 8]]), 2)[0]
    torch.testing.assert_close(
        tokens, torch.tensor([[3.0, 4.5], [5.0, 4.5], [3.0, 5.5], [5.0, 5.5]])
    )


def test_image_index_and_full_boxes():
    maps = torch.cat([ramp(), 10 + ramp()])
    pooled = pool_regions(maps, full_boxes(2, maps.device), 1)
    torch.testing.assert_close(pooled.flatten(1), torch.tensor([[6.0, 4.0], [16.0, 14.0]]))


def test_half_precision_maps_keep_exact_boxes():
    """0.37 of 64 tokens is no bfloat16 number; the box must not move."""
    box = torch.tensor([[0, 0.37, 0.1, 0.73, 0.9]])
    exact = pool_regions(ramp(64, 64), box, 1)
    half = pool_regions(ramp(64, 64).bfloat16(), box, 1)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, exact, atol=0.01, rtol=0)


def test_no_boxes():
    assert pool_regions(ramp(), torch.zeros(0, 5), 3).shape == (0, 2, 3, 3)
