"""Class aggregation of CAT-Seg: at each position, the classes attend to one another.

Shapes: B images, T classes, N = h * w positions, C channels, G channels of the text guidance.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn

from .spatial_aggregation import Grid

_EPS = 1e-6


def feature_map(x: Tensor) -> Tensor:
    """Positive features of linear attention, ELU + 1 (Katharopoulos et al., arXiv 2006.16236)."""
    return F.elu(x) + 1


def full_precision(x: Tensor) -> Tensor:
    """At least float32: sums over hundreds of classes leave the range of half precision."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


class ClassAttention(nn.Module):
    """Projections of the attention: query and key see cost and text, value sees the cost.

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

    def features(self, layer: nn.Linear, x: Tensor, guidance: Tensor) -> Tensor:
        """Cost ``(..., T, N, C)``, text ``(..., T, G)`` to ``(..., T, N, heads, d)``, float32."""
        of_text = F.linear(guidance, layer.weight[:, self.embed_dims :], layer.bias)
        projected = F.linear(x, layer.weight[:, : self.embed_dims]) + of_text[..., None, :]
        return feature_map(full_precision(projected).unflatten(-1, (self.num_heads, -1)))

    def values(self, x: Tensor) -> Tensor:
        """Project cost ``(..., C)`` to ``(..., heads, d)``, float32."""
        return full_precision(self.v(x)).unflatten(-1, (self.num_heads, -1))


class ClassAggregation(BaseModule):
    """Linear attention over classes with an MLP, at a pooled resolution while training.

    The published block fills every vocabulary up to ``pad_len`` classes with one learned token. All
    of these are equal, and linear attention only sums over keys, so their part is one product times
    their number: no padded class is ever run.

    Args:
        embed_dims: Channels C.
        guidance_dims: Channels G.
        num_heads: Attention heads.
        pad_len: Number of classes that the attention always sees; 0 turns padding off.
        pooling_size: Side of the average pooling while training, in positions.
        test_pooling_size: The same in eval mode.
        init_cfg: mmengine's initialisation.
    """

    def __init__(
        self,
        embed_dims: int,
        guidance_dims: int,
        num_heads: int,
        pad_len: int = 256,
        pooling_size: int = 2,
        test_pooling_size: int = 1,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.pad_len = pad_len
        self.pooling_size, self.test_pooling_size = pooling_size, test_pooling_size
        self.norm1 = nn.LayerNorm(embed_dims)
        self.attn = ClassAttention(embed_dims, guidance_dims, num_heads)
        self.norm2 = nn.LayerNorm(embed_dims)
        self.mlp = nn.Sequential(
            nn.Linear(embed_dims, 4 * embed_dims), nn.ReLU(), nn.Linear(4 * embed_dims, embed_dims)
        )
        self.padding_token: nn.Parameter | None = None
        self.padding_guidance: nn.Parameter | None = None
        if pad_len:
            self.padding_token = nn.Parameter(torch.zeros(embed_dims))
            self.padding_guidance = nn.Parameter(torch.zeros(guidance_dims))

    def forward(self, x: Tensor, guidance: Tensor, grid: Grid, chunk: int | None = None) -> Tensor:
        """Update cost maps ``(B, T, N, C)``.

        Args:
            x: Cost maps.
            guidance: Projected text ``(T, G)``, or ``(B, T, G)`` where images differ in classes.
            grid: (h, w).
            chunk: Classes run at a time to save memory; all by default.
        """
        guidance = guidance.expand(len(x), -1, -1)
        spans = [slice(None)]
        if chunk is not None:
            spans = [slice(start, start + chunk) for start in range(0, x.shape[1], chunk)]
        products, keys = self._padding(max(0, self.pad_len - x.shape[1]))
        for span in spans:
            y = self.norm1(self._pool(x[:, span], grid))
            key = self.attn.features(self.attn.k, y, guidance[:, span])
            value = self.attn.values(y)
            with torch.autocast(x.device.type, enabled=False):
                products = products + torch.einsum('btnhd,btnhe->bnhde', key, value)
            keys = keys + key.sum(1)
        updated = [
            self._update(x[:, span], guidance[:, span], grid, products, keys) for span in spans
        ]
        return updated[0] if len(updated) == 1 else torch.cat(updated, dim=1)

    def _padding(self, number: int) -> tuple[Tensor, Tensor]:
        """Sums over ``number`` padding classes: key times value, and key."""
        if self.padding_token is None or self.padding_guidance is None or number == 0:
            zero = full_precision(self.norm1.weight.new_zeros(()))
            return zero, zero
        token = self.norm1(self.padding_token)[None, None]  # one class, one position
        guidance = self.padding_guidance[None]
        key = self.attn.features(self.attn.k, token, guidance)[0, 0]
        value = self.attn.values(token)[0, 0]
        return number * key[..., None] * value[..., None, :], number * key

    def _update(
        self, x: Tensor, guidance: Tensor, grid: Grid, products: Tensor, keys: Tensor
    ) -> Tensor:
        pooled = self._pool(x, grid)
        query = self.attn.features(self.attn.q, self.norm1(pooled), guidance)
        with torch.autocast(x.device.type, enabled=False):
            scale = 1 / (torch.einsum('btnhd,bnhd->btnh', query, keys) + _EPS)
            mixed = torch.einsum('btnhd,bnhde->btnhe', query, products) * scale[..., None]
        pooled = pooled + mixed.flatten(3).to(pooled.dtype)
        pooled = pooled + self.mlp(self.norm2(pooled))
        return x + self._unpool(pooled, grid)

    def _pooling(self) -> int:
        return self.pooling_size if self.training else self.test_pooling_size

    def _pool(self, x: Tensor, grid: Grid) -> Tensor:
        """Average cost maps ``(B, T, N, C)`` over cells of the pooling."""
        size = self._pooling()
        if size == 1:
            return x
        maps = x.flatten(0, 1).transpose(1, 2).unflatten(2, grid)
        return F.avg_pool2d(maps, size).flatten(2).transpose(1, 2).unflatten(0, x.shape[:2])

    def _unpool(self, x: Tensor, grid: Grid) -> Tensor:
        """Resize pooled cost maps back to the grid."""
        size = self._pooling()
        if size == 1:
            return x
        small = (grid[0] // size, grid[1] // size)
        maps = x.flatten(0, 1).transpose(1, 2).unflatten(2, small)
        maps = F.interpolate(maps, size=grid, mode='bilinear', align_corners=True)
        return maps.flatten(2).transpose(1, 2).unflatten(0, x.shape[:2])
