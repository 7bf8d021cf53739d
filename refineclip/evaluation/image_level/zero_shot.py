"""Zero-shot classification of whole images: what refinement must not cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from ..bootstrap import ImageScores

_CHUNK = 4096  # images per matrix of logits: 16 MB with 1000 classes
_MAX_ELEMENTS = 2**24  # of a chunk of resamples


@dataclass(frozen=True)
class ClassMeanScores(ImageScores):
    """Mean over classes of an accuracy, each image being of one class.

    Equal to :class:`ImageScores` with a cell per class, whose (images, classes) arrays would take
    800 MB for ImageNet's validation set and their resampling hours.

    Attributes:
        numerator: (I,) 1 for right, 0 for wrong.
        denominator: (I,) ones.
        classes: (I,) class index of each image.
    """

    classes: NDArray[np.int64]

    def resample(self, counts: NDArray[np.floating]) -> NDArray[np.float64]:
        """See :meth:`ImageScores.resample`; classes absent from a resample are left out of it."""
        order = np.argsort(self.classes, kind='stable')
        starts = np.unique(self.classes[order], return_index=True)[1]
        size = max(1, _MAX_ELEMENTS // max(1, self.num_images))
        values = []
        for first in range(0, len(counts), size):
            drawn = counts[first : first + size][:, order]
            right = np.add.reduceat(drawn * self.numerator[order], starts, axis=1)
            total = np.add.reduceat(drawn * self.denominator[order], starts, axis=1)
            accuracy = np.divide(right, total, out=np.zeros_like(right), where=total > 0)
            values.append(accuracy.sum(axis=1) / (total > 0).sum(axis=1))
        return np.concatenate(values)


@dataclass(frozen=True)
class ZeroShotAccuracy:
    """Accuracies of whole images.

    Attributes:
        scores: ``top{k}``, a share of images, and ``class_top{k}``, the mean over classes that
            occur; each resamples over images. A k that no answer could miss is left out.
        per_class: ``top{k}`` -> (C,) accuracy per class, NaN where it is absent.
    """

    scores: dict[str, ImageScores]
    per_class: dict[str, NDArray[np.float64]]


def zero_shot_accuracy(
    features: Tensor, labels: NDArray[np.int64], text: Tensor, topk: Sequence[int] = (1, 5)
) -> ZeroShotAccuracy:
    """Classify image embeddings by the class name of the highest cosine.

    Of equal cosines the true class comes last, so that collapsed features or classes of one name
    do not score.

    Args:
        features: (N, D) image embeddings, any norm.
        labels: (N,) class index.
        text: (C, D) embeddings of the class names, any norm.
        topk: An image is right at k if its class is among the k most similar.

    Raises:
        ValueError: If shapes or labels do not fit, there are fewer than two classes, or a value is
            not finite.
    """
    _check(features, labels, text)
    features = F.normalize(features.float(), dim=1)
    text = F.normalize(text.float(), dim=1)
    truth = torch.from_numpy(labels)
    ranks = []
    for part, true in zip(features.split(_CHUNK), truth.split(_CHUNK), strict=True):
        logits = part @ text.T
        ranks.append((logits >= logits.gather(1, true[:, None])).sum(dim=1) - 1)
    rank = torch.cat(ranks).numpy()
    num_classes = len(text)
    count = np.bincount(labels, minlength=num_classes).astype(np.float64)
    ones = np.ones(len(labels))
    scores: dict[str, ImageScores] = {}
    per_class: dict[str, NDArray[np.float64]] = {}
    for k in topk:
        if k >= num_classes:
            continue
        hits = (rank < k).astype(np.float64)
        scores[f'top{k}'] = ImageScores(hits, ones)
        scores[f'class_top{k}'] = ClassMeanScores(hits, ones, labels)
        accuracy = np.full(num_classes, np.nan)
        right = np.bincount(labels, weights=hits, minlength=num_classes)
        np.divide(right, count, out=accuracy, where=count > 0)
        per_class[f'top{k}'] = accuracy
    return ZeroShotAccuracy(scores, per_class)


def _check(features: Tensor, labels: NDArray[np.int64], text: Tensor) -> None:
    if features.ndim != 2 or text.ndim != 2 or features.shape[1] != text.shape[1]:
        raise ValueError(
            'expected image and text embeddings of one width, (N, D) and (C, D), got '
            f'{tuple(features.shape)} and {tuple(text.shape)}'
        )
    if len(features) != len(labels) or len(features) == 0:
        raise ValueError(
            f'expected one label per image and at least one image, got {len(features)} images and '
            f'{len(labels)} labels'
        )
    num_classes = len(text)
    if num_classes < 2:
        raise ValueError(f'expected two or more classes to tell apart, got {num_classes}')
    if not 0 <= labels.min() <= labels.max() < num_classes:
        raise ValueError(
            f'expected labels in [0, {num_classes}), got {labels.min()}..{labels.max()}; use the '
            'class names that the data set has'
        )
    for name, value in (('image', features), ('text', text)):
        if not value.isfinite().all():
            raise ValueError(
                f'expected finite {name} embeddings, got NaN or infinity; check the weights'
            )
