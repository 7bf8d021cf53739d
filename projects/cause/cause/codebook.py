"""The concept codebook: a vocabulary of unnamed concepts, each a direction in feature space."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class ConceptCodebook(nn.Module):
    """K concepts; a token belongs to the concept of the highest cosine.

    Args:
        num_concepts: K; 2,048 in CAUSE's published defaults.
        embed_dims: Channels D of the tokens.

    Raises:
        ValueError: If there are fewer than two concepts.
    """

    def __init__(self, num_concepts: int, embed_dims: int) -> None:
        super().__init__()
        if num_concepts < 2:
            raise ValueError(f'num_concepts: expected 2 or more, got {num_concepts}')
        self.concepts = nn.Parameter(F.normalize(torch.randn(num_concepts, embed_dims), dim=-1))

    def unit_concepts(self) -> Tensor:
        """The concepts (K, D), L2-normalised."""
        return F.normalize(self.concepts, dim=-1)

    def assign(self, tokens: Tensor) -> Tensor:
        """Concept index (B, N) of tokens (B, N, D)."""
        return (tokens @ self.unit_concepts().T).argmax(dim=-1)

    def lookup(self, ids: Tensor) -> Tensor:
        """Concepts (B, N, D), L2-normalised, of indices (B, N)."""
        return self.unit_concepts()[ids]

    def similarity(self) -> Tensor:
        """Cosine of every pair of concepts, (K, K)."""
        unit = self.unit_concepts()
        return unit @ unit.T
