"""Segmentation heads of stage 2: frozen tokens and their concepts to a small embedding.

Shapes: B images, N tokens, D frozen channels, E embedding.
"""

from __future__ import annotations

import torch
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import Tensor, nn


@MODELS.register_module()
class CauseTransformerHead(BaseModule):
    """CAUSE-TR: one transformer decoder layer in which tokens attend to the image's concepts.

    Known is a single decoder-like layer over tokens and discretised concepts. Which side queries is
    not stated in what we could read: here the tokens do, so that each keeps its place.

    Args:
        in_channels: D.
        embed_dims: E; 90 in CAUSE's published defaults.
        num_heads: Attention heads. Not stated; ours.
        feedforward_channels: Width of the MLP, default ``2 * D``. Not stated; ours.
        dropout: In attention and MLP. Not stated; the layer's own default.
        init_cfg: As for mmengine's modules.

    Raises:
        ValueError: If the heads do not divide D.
    """

    def __init__(
        self,
        in_channels: int,
        embed_dims: int = 90,
        num_heads: int = 8,
        feedforward_channels: int | None = None,
        dropout: float = 0.1,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if in_channels % num_heads:
            raise ValueError(
                f'num_heads: expected a divisor of the {in_channels} token channels, got '
                f'{num_heads}'
            )
        self.embed_dims = embed_dims
        # Unit-length tokens have entries near D^-1/2; the layer's norms expect about 1.
        self.scale = in_channels**0.5
        self.layer = nn.TransformerDecoderLayer(
            in_channels,
            num_heads,
            feedforward_channels or 2 * in_channels,
            dropout,
            batch_first=True,
            norm_first=True,
        )
        self.norm = nn.LayerNorm(in_channels)
        self.reduce = nn.Linear(in_channels, embed_dims)

    def forward(self, tokens: Tensor, concepts: Tensor) -> Tensor:
        """Embeddings (B, N, E) of unit tokens (B, N, D) and their unit concepts (B, N, D)."""
        mixed = self.layer(self.scale * tokens, self.scale * concepts)
        return self.reduce(self.norm(mixed))


@MODELS.register_module()
class CauseMLPHead(BaseModule):
    """CAUSE-MLP: a linear and a two-layer path over each token and its concept, summed.

    Known is an MLP in place of the decoder layer; its shape is not stated in what we could read.

    Args:
        in_channels: D.
        embed_dims: E; 90 in CAUSE's published defaults.
        init_cfg: As for mmengine's modules.
    """

    def __init__(
        self, in_channels: int, embed_dims: int = 90, init_cfg: dict | None = None
    ) -> None:
        super().__init__(init_cfg)
        self.embed_dims = embed_dims
        self.scale = in_channels**0.5
        self.linear = nn.Linear(2 * in_channels, embed_dims)
        self.mlp = nn.Sequential(
            nn.Linear(2 * in_channels, in_channels), nn.ReLU(), nn.Linear(in_channels, embed_dims)
        )

    def forward(self, tokens: Tensor, concepts: Tensor) -> Tensor:
        """Embeddings (B, N, E) of unit tokens (B, N, D) and their unit concepts (B, N, D)."""
        both = self.scale * torch.cat([tokens, concepts], dim=-1)
        return self.linear(both) + self.mlp(both)
