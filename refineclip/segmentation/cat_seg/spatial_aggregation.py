"""Spatial aggregation of CAT-Seg: window attention on each class's cost map, guided by the image.

Shapes: B images, T classes, N = h * w positions of the token grid, C channels of the cost volume, G
channels of the guidance.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

Grid = tuple[int, int]
# What guidance adds to query and key, each (B, 1, N, C).
Guide = tuple[Tensor, Tensor]


def window_edges(size: int, window: int, shift: int) -> list[int]:
    """Return where windows begin and end along one side.

    Swin rolls a shifted map around and then masks what does not belong together. That is the same
    as cutting the windows at the border, without roll, mask, or the work that is masked away.

    Args:
        size: Positions along the side.
        window: Positions of a whole window.
        shift: Offset of the first cut; 0 is none.

    Raises:
        ValueError: If whole windows do not fill the side.
    """
    if size <= window:
        return [0, size]
    if size % window:
        raise ValueError(
            f'expected a token grid of multiples of window_size={window}, got a side of {size}; '
            'change input_size or window_size'
        )
    return sorted({0, *range(shift, size, window), size})


def window_attention(
    query: Tensor, key: Tensor, value: Tensor, rows: list[int], columns: list[int]
) -> Tensor:
    """Attend within windows.

    Args:
        query: ``(M, h, w, heads, d)`` of M maps.
        key: Of the same shape.
        value: Of the same shape.
        rows: Edges of the windows from top to bottom, 0 and h included.
        columns: Edges from left to right, 0 and w included.

    Returns:
        ``(M, h, w, heads * d)``.
    """
    bands = []
    for top, bottom in pairwise(rows):
        band = []
        for left, right in pairwise(columns):
            parts = (x[:, top:bottom, left:right] for x in (query, key, value))
            q, k, v = (x.flatten(1, 2).transpose(1, 2) for x in parts)
            mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
            band.append(mixed.unflatten(1, (bottom - top, right - left)))
        bands.append(torch.cat(band, dim=2))
    return torch.cat(bands, dim=1)


class WindowAttention(nn.Module):
    """Projections of the attention: query and key see cost and guidance, value sees the cost.

    A linear map of ``[x, g]`` is a linear map of x plus one of g. The second is the same for all
    classes of an image, so :meth:`guide` computes it once.

    Args:
        embed_dims: Channels C.
        guidance_dims: Channels G.
        num_heads: Attention heads.
    """

    def __init__(self, embed_dims: int, guidance_dims: int, num_heads: int) -> None:
        super().__init__()
        self.embed_dims, self.num_heads = embed_dims, num_heads
        self.q = nn.Linear(embed_dims + guidance_dims, embed_dims)
        self.k = nn.Linear(embed_dims + guidance_dims, embed_dims)
        self.v = nn.Linear(embed_dims, embed_dims)
        self.proj = nn.Linear(embed_dims, embed_dims)

    def guide(self, guidance: Tensor) -> Guide:
        """Project guidance ``(B, N, G)``."""
        parts = (
            F.linear(guidance, layer.weight[:, self.embed_dims :], layer.bias)[:, None]
            for layer in (self.q, self.k)
        )
        query, key = parts
        return query, key

    def forward(self, x: Tensor, guide: Guide, grid: Grid, window: int, shift: int) -> Tensor:
        """Mix cost maps ``(B, T, N, C)`` within windows."""
        dims = self.embed_dims
        query = F.linear(x, self.q.weight[:, :dims]) + guide[0]
        key = F.linear(x, self.k.weight[:, :dims]) + guide[1]
        heads = (
            part.flatten(0, 1).unflatten(1, grid).unflatten(3, (self.num_heads, -1))
            for part in (query, key, self.v(x))
        )
        edges = (window_edges(side, window, shift) for side in grid)
        return self.proj(window_attention(*heads, *edges).view(x.shape))


class GuidedSwinBlock(nn.Module):
    """One pre-norm block: guided window attention, then an MLP.

    Args:
        embed_dims: Channels C.
        guidance_dims: Channels G.
        num_heads: Attention heads.
        window_size: Side of a window, in positions.
        shift: Offset of the windows, in positions; ignored where one window is the whole grid.
    """

    def __init__(
        self, embed_dims: int, guidance_dims: int, num_heads: int, window_size: int, shift: int
    ) -> None:
        super().__init__()
        self.window_size, self.shift = window_size, shift
        self.norm1 = nn.LayerNorm(embed_dims)
        self.attn = WindowAttention(embed_dims, guidance_dims, num_heads)
        self.norm2 = nn.LayerNorm(embed_dims)
        self.mlp = nn.Sequential(
            nn.Linear(embed_dims, 4 * embed_dims), nn.GELU(), nn.Linear(4 * embed_dims, embed_dims)
        )

    def forward(self, x: Tensor, guide: Guide, grid: Grid) -> Tensor:
        """Update cost maps ``(B, T, N, C)``."""
        # As Swin does: a grid that one window spans on its shorter side is not cut at all there.
        window = min(self.window_size, *grid)
        shift = self.shift if min(grid) > self.window_size else 0
        x = x + self.attn(self.norm1(x), guide, grid, window, shift)
        return x + self.mlp(self.norm2(x))


class SpatialAggregation(BaseModule):
    """Two guided blocks, the second with shifted windows.

    Args:
        embed_dims: Channels C.
        guidance_dims: Channels G.
        num_heads: Attention heads.
        window_size: Side of a window, in positions.
        init_cfg: mmengine's initialisation.
    """

    def __init__(
        self,
        embed_dims: int,
        guidance_dims: int,
        num_heads: int,
        window_size: int,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.guidance_norm = nn.LayerNorm(guidance_dims)
        self.blocks = nn.ModuleList(
            GuidedSwinBlock(embed_dims, guidance_dims, num_heads, window_size, shift)
            for shift in (0, window_size // 2)
        )

    def guide(self, guidance: Tensor) -> list[Guide]:
        """Project guidance ``(B, N, G)`` for every block."""
        guidance = self.guidance_norm(guidance)
        blocks: Any = self.blocks
        return [block.attn.guide(guidance) for block in blocks]

    def forward(self, x: Tensor, guides: list[Guide], grid: Grid) -> Tensor:
        """Update cost maps ``(B, T, N, C)``; no class sees another."""
        for block, guide in zip(self.blocks, guides, strict=True):
            x = block(x, guide, grid)
        return x
