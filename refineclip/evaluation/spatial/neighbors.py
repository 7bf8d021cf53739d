"""Class of a token by its nearest tokens of other images."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from refineclip.evaluation.bootstrap import ImageScores

from .token_measure import Labels, TokenMeasure, TokenSample, labelled

_CHUNK = 2000  # queries at a time


class NearestNeighbors(TokenMeasure):
    """Classify tokens by a vote of their nearest neighbours in *other* images.

    Args:
        labels: (N,) class per token; negative does not count.
        num_neighbors: Voters; each counts one, a tie goes to the lower class.
        max_tokens: Random tokens that serve as queries, and as many that serve as bank.
        seed: Seed of the two draws.
    """

    def __init__(
        self, labels: Labels, num_neighbors: int = 20, max_tokens: int = 10_000, seed: int = 0
    ) -> None:
        super().__init__(labels)
        self.keep = labelled(labels, 'knn', 2)
        self.num_neighbors = num_neighbors
        counts = np.array([mask.sum() for mask in self.keep])
        generator = torch.Generator().manual_seed(seed)
        query, bank = (
            torch.randperm(int(counts.sum()), generator=generator)[:max_tokens].clone()
            for _ in range(2)
        )
        truth = torch.from_numpy(
            np.concatenate([label[mask] for label, mask in zip(labels, self.keep, strict=True)])
        )
        images = torch.from_numpy(np.repeat(np.arange(len(labels), dtype=np.int32), counts))
        self.num_classes = int(truth.max()) + 1
        self.sides = [
            (TokenSample(drawn.numpy(), counts), truth[drawn].long(), images[drawn])
            for drawn in (query, bank)
        ]

    def update(self, turn: int, index: int, tokens: Tensor) -> None:
        """Gather the queries and the bank."""
        kept = tokens.float().cpu()[torch.from_numpy(self.keep[index])]
        for sample, _, _ in self.sides:
            sample.add(index, kept)

    def meet(self, turn: int) -> None:
        """See :meth:`TokenMeasure.meet`."""
        for sample, _, _ in self.sides:
            sample.meet()

    def scores(self) -> ImageScores:
        """Accuracy over the query tokens, in [0, 1]."""
        (query, truth, images), (bank, bank_truth, bank_images) = self.sides
        assert query.tokens is not None
        assert bank.tokens is not None
        hits, voted = [], []
        for chunk in torch.arange(len(truth)).split(_CHUNK):
            similarity = query.tokens[chunk] @ bank.tokens.T
            similarity[images[chunk][:, None] == bank_images[None]] = -torch.inf
            k = min(self.num_neighbors, similarity.shape[1])
            nearest = similarity.topk(k, dim=1)
            voters = bank_truth[nearest.indices]
            votes = torch.zeros(len(chunk), self.num_classes)
            votes.scatter_add_(1, voters, nearest.values.isfinite().float())
            hits.append(votes.argmax(1) == truth[chunk])
            voted.append(votes.any(1))
        kept = torch.cat(voted)  # a small bank may hold no token of another image
        return ImageScores.from_hits(
            torch.cat(hits)[kept].numpy(), images[kept].numpy(), num_images=len(self.labels)
        )
