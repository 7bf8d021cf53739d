"""Class of a token by a ridge regression, fitted from sums that images add to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from refineclip.evaluation.bootstrap import ImageScores

from ..streams.meeting import add_up, widest
from .token_measure import Labels, TokenMeasure, labelled


@dataclass
class _Sums:
    """Sums over the tokens of a fold, float64: of ones, x (D), x x' (D, D), y (C), x y' (D, C)."""

    number: Tensor
    x: Tensor
    xx: Tensor
    y: Tensor
    xy: Tensor

    @classmethod
    def zero(cls, dims: int, classes: int) -> _Sums:
        shapes: Sequence[Sequence[int]] = ((), (dims,), (dims, dims), (classes,), (dims, classes))
        return cls(*(torch.zeros(shape, dtype=torch.float64) for shape in shapes))

    def add(self, x: Tensor, truth: Tensor) -> None:
        self.number += len(x)
        self.x += x.sum(0)
        self.xx += x.T @ x
        self.y += truth.bincount(minlength=len(self.y))
        self.xy.T.index_add_(0, truth, x)

    def __sub__(self, other: _Sums) -> _Sums:
        mine, theirs = vars(self).values(), vars(other).values()
        return _Sums(*(a - b for a, b in zip(mine, theirs, strict=True)))

    def __add__(self, other: _Sums) -> _Sums:
        mine, theirs = vars(self).values(), vars(other).values()
        return _Sums(*(a + b for a, b in zip(mine, theirs, strict=True)))


@dataclass(frozen=True)
class _Probe:
    mean: Tensor
    std: Tensor
    weight: Tensor
    bias: Tensor

    @classmethod
    def fit(cls, sums: _Sums, ridge: float) -> _Probe:
        """Ridge regression on standardised channels, from sums."""
        mean, share = sums.x / sums.number, sums.y / sums.number
        covariance = sums.xx - sums.number * mean[:, None] * mean
        variance = covariance.diagonal() / (sums.number - 1).clamp(min=1)
        std = variance.clamp_min(0).sqrt().clamp_min(1e-6)
        gram = covariance / (std[:, None] * std)
        gram += ridge * torch.eye(len(mean), dtype=torch.float64)
        right = (sums.xy - sums.number * mean[:, None] * share) / std[:, None]
        return cls(mean, std, torch.linalg.solve(gram, right), share)

    def classify(self, x: Tensor) -> Tensor:
        return ((x - self.mean) / self.std @ self.weight + self.bias).argmax(1)


class LinearProbe(TokenMeasure):
    """Classify tokens by a ridge regression on one-hot classes, cross-validated over images.

    Channels are standardised with the statistics of the training folds, so that ``ridge`` means the
    same for every encoder. The regression is in closed form from sums, which the first pass adds
    up; the second classifies.

    Args:
        labels: (N,) class per token; negative does not count.
        num_folds: The i-th image that has labelled tokens is tested in fold ``i % num_folds``.
        ridge: Weight of the squared norm; the bias is not penalised.
    """

    num_passes = 2

    def __init__(self, labels: Labels, num_folds: int = 5, ridge: float = 1.0) -> None:
        super().__init__(labels)
        self.keep = labelled(labels, 'ridge', 2)
        if num_folds < 2:
            raise ValueError(f'ridge: expected two or more folds, got {num_folds}')
        self.ridge, self.num_folds = ridge, num_folds
        counted = [bool(mask.any()) for mask in self.keep]
        self.fold_of = np.where(counted, (np.cumsum(counted) - 1) % num_folds, -1)
        self.num_classes = 1 + max(int(label.max(initial=-1)) for label in labels)
        self.sums: list[_Sums] = []
        self.probes: list[_Probe] = []
        self.right = np.zeros(len(labels))

    def update(self, turn: int, index: int, tokens: Tensor) -> None:
        """Add an image to the sums of its fold, then classify its tokens by the other folds."""
        fold = int(self.fold_of[index])
        if fold < 0:
            return
        keep = torch.from_numpy(self.keep[index])
        x = tokens.cpu()[keep].double()
        truth = torch.from_numpy(self.labels[index]).long()[keep]
        if not self.sums:
            self.sums = [_Sums.zero(x.shape[1], self.num_classes) for _ in range(self.num_folds)]
        if turn == 0:
            self.sums[fold].add(x, truth)
            return
        if not self.probes:
            total = sum(self.sums[1:], self.sums[0])
            self.probes = [_Probe.fit(total - one, self.ridge) for one in self.sums if one.number]
        self.right[index] = (self.probes[fold].classify(x) == truth).sum()

    def meet(self, turn: int) -> None:
        """See :meth:`TokenMeasure.meet`."""
        if turn == 1:
            add_up(self.right)
            return
        width = widest(len(self.sums[0].x) if self.sums else 0)
        if not self.sums:
            self.sums = [_Sums.zero(width, self.num_classes) for _ in range(self.num_folds)]
        for sums in self.sums:
            add_up(*vars(sums).values())

    def scores(self) -> ImageScores:
        """Accuracy over the tokens of all folds, in [0, 1]."""
        return ImageScores(self.right, np.array([float(mask.sum()) for mask in self.keep]))
