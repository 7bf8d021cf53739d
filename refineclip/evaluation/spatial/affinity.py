"""Affinity AUC: do two tokens of one segment look more alike than two of different ones?"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from torch import Tensor

from refineclip.evaluation.bootstrap import ImageScores

from ..streams.meeting import add_up
from .token_measure import Labels, TokenMeasure


class PerImageMeasure(TokenMeasure):
    """A mean over images of what each says alone.

    Args:
        labels: (N,) segment ids per image; tokens with an id <= 0 do not count.
    """

    name: str

    def __init__(self, labels: Labels) -> None:
        super().__init__(labels)
        self.values = np.zeros(len(labels))

    def of_image(self, tokens: Tensor, ids: NDArray[np.integer]) -> float:
        """The measure of one image; NaN where it is undefined."""
        raise NotImplementedError

    def update(self, turn: int, index: int, tokens: Tensor) -> None:
        """Score one image."""
        self.values[index] = self.of_image(tokens, self.labels[index])

    def meet(self, turn: int) -> None:
        """See :meth:`TokenMeasure.meet`."""
        add_up(self.values)

    def scores(self) -> ImageScores:
        """Mean over images."""
        return defined(ImageScores.from_values(self.values), self.name)


class AffinityAUC(PerImageMeasure):
    """ROC-AUC of token-token cosine: pairs of one segment against pairs of two segments.

    In [0, 1], 0.5 at chance; undefined for an image of fewer than two segments.
    """

    name = 'auc'

    def of_image(self, tokens: Tensor, ids: NDArray[np.integer]) -> float:
        """The measure of one image; NaN where it is undefined."""
        return auc_of_image(tokens, ids)


def defined(scores: ImageScores, measure: str) -> ImageScores:
    """Return the scores, and refuse a measure that no image defines."""
    if not scores.denominator.any():
        raise ValueError(
            f'{measure}: expected an image whose tokens show two or more segments, got none in '
            f'{scores.num_images} images; give other images, or smaller tokens'
        )
    return scores


def auc_of_image(tokens: Tensor, ids: NDArray[np.integer]) -> float:
    """Affinity AUC of one image; NaN where it is undefined."""
    keep = ids > 0
    rows, columns = np.triu_indices(int(keep.sum()), k=1)
    same = ids[keep][rows] == ids[keep][columns]
    if same.all() or not same.any():
        return float('nan')
    kept = tokens.float().cpu()[torch.from_numpy(keep)]
    cosine = (kept @ kept.T).numpy()[rows, columns]
    return float(roc_auc_score(same, cosine))
