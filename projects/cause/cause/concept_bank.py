"""Teacher features of earlier batches, with their concepts."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class ConceptBank(nn.Module):
    """A ring of teacher features that no concept may flood.

    Args:
        size: Features kept.
        embed_dims: Channels P of a feature.
        max_per_concept: Features of one concept taken from one batch, drawn at random, so that
            frequent concepts do not push out rare ones.

    Raises:
        ValueError: If a number is less than one.
    """

    features: Tensor
    ids: Tensor
    cursor: Tensor

    def __init__(self, size: int, embed_dims: int, max_per_concept: int) -> None:
        super().__init__()
        if min(size, max_per_concept) < 1:
            raise ValueError(
                f'expected size and max_per_concept of 1 or more, got {size} and {max_per_concept}'
            )
        self.max_per_concept = max_per_concept
        self.register_buffer('features', torch.zeros(size, embed_dims))
        # -1: not filled yet.
        self.register_buffer('ids', torch.full((size,), -1, dtype=torch.long))
        self.register_buffer('cursor', torch.zeros((), dtype=torch.long))

    def content(self) -> tuple[Tensor, Tensor]:
        """Features (M, P) and concept indices (M,) held now."""
        filled = self.ids >= 0
        return self.features[filled], self.ids[filled]

    @torch.no_grad()
    def push(self, features: Tensor, ids: Tensor) -> None:
        """Add a draw of features (T, P) with concepts (T,) in place of the oldest."""
        keep = draw_per_concept(ids, self.max_per_concept)[: len(self.ids)]
        slots = (self.cursor + torch.arange(len(keep), device=ids.device)) % len(self.ids)
        self.features[slots] = features[keep].to(self.features.dtype)
        self.ids[slots] = ids[keep]
        self.cursor.copy_((self.cursor + len(keep)) % len(self.ids))


def draw_per_concept(ids: Tensor, limit: int) -> Tensor:
    """Indices of a random draw of at most ``limit`` entries of each concept, in random order.

    Args:
        ids: (T,) concept indices.
        limit: Entries of one concept.

    Returns:
        (T',) indices into ``ids``.
    """
    # Drawn on the CPU, see draws_of_iteration: nobody seeds the generator of a GPU.
    shuffle = torch.randperm(len(ids)).to(ids.device)
    order = shuffle[ids[shuffle].argsort(stable=True)]
    grouped = ids[order]
    _, counts = grouped.unique_consecutive(return_counts=True)
    starts = (counts.cumsum(0) - counts).repeat_interleave(counts)
    rank = torch.arange(len(ids), device=ids.device) - starts
    kept = order[rank < limit]
    return kept[torch.randperm(len(kept)).to(ids.device)]
