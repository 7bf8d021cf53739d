"""Classification of regions by class names: the measure of region-language alignment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from refineclip.evaluation.bootstrap import ImageScores


@dataclass(frozen=True)
class RegionAccuracy:
    """Accuracies of one set of regions.

    Attributes:
        scores: ``top{k}``, ``things_top{k}``, ``stuff_top{k}`` over all regions of the group, and
            ``class_top{k}``, ``things_class_top{k}``, ``stuff_class_top{k}``, the mean over the
            group's classes that occur; each resamples over images.
        per_class: ``top{k}`` -> (C,) accuracy per class of the fixed list, NaN where it is absent.
    """

    scores: dict[str, ImageScores]
    per_class: dict[str, NDArray[np.float64]]


def region_accuracy(
    logits: Tensor,
    labels: Tensor,
    images: NDArray[np.int64],
    num_images: int,
    is_thing: NDArray[np.bool_] | None = None,
    topk: Sequence[int] = (1, 5),
) -> RegionAccuracy:
    """Score regions against their classes.

    Args:
        logits: (R, C) scores of every class of the fixed list for every region.
        labels: (R,) class index.
        images: (R,) index of the image of each region.
        num_images: Images in all.
        is_thing: (C,) thing or stuff; without it the two groups are left out.
        topk: A region is right at k if its class is among the k highest logits.

    Raises:
        ValueError: If shapes or labels do not fit the class list.
    """
    if logits.ndim != 2 or len(logits) != len(labels) or len(logits) != len(images):
        raise ValueError(
            f'expected logits (R, C) with R labels and R image indices, got {tuple(logits.shape)}, '
            f'{len(labels)} and {len(images)}'
        )
    ranked = ranked_classes(logits, labels, max(topk))
    return accuracy_of_ranks(ranked, labels, images, (num_images, logits.shape[1]), is_thing, topk)


def ranked_classes(logits: Tensor, labels: Tensor, k: int) -> Tensor:
    """Return the k classes of the highest logits of each region, (R, k) or as many as there are.

    Args:
        logits: (R, C).
        labels: (R,) class index.
        k: Number of classes.

    Raises:
        ValueError: If labels do not fit the class list, or a logit is not finite.
    """
    num_classes = logits.shape[1]
    if len(labels) and not 0 <= int(labels.min()) <= int(labels.max()) < num_classes:
        raise ValueError(
            f'expected labels in [0, {num_classes}), got {int(labels.min())}..{int(labels.max())}; '
            'use the class list that the logits were made with'
        )
    if not logits.isfinite().all():
        bad = int((~logits.isfinite().all(dim=1)).sum())
        raise ValueError(
            f'expected finite logits, got NaN or infinity for {bad} of {len(logits)} regions; '
            'check the weights and the text embeddings'
        )
    return logits.topk(min(k, num_classes), dim=1).indices.cpu()


def accuracy_of_ranks(
    ranked: Tensor,
    labels: Tensor,
    images: NDArray[np.int64],
    shape: tuple[int, int],
    is_thing: NDArray[np.bool_] | None = None,
    topk: Sequence[int] = (1, 5),
) -> RegionAccuracy:
    """Score regions by their most likely classes.

    Args:
        ranked: (R, k) of :func:`ranked_classes`.
        labels: (R,) class index.
        images: (R,) index of the image of each region.
        shape: Images in all, and classes.
        is_thing: (C,) thing or stuff; without it the two groups are left out.
        topk: A region is right at k if its class is among the first k.
    """
    num_images, num_classes = shape
    truth = labels.cpu().numpy()
    right = ranked.numpy() == truth[:, None]
    scores: dict[str, ImageScores] = {}
    per_class: dict[str, NDArray[np.float64]] = {}
    for k in topk:
        hits = right[:, :k].any(axis=1)
        scores[f'top{k}'] = ImageScores.from_hits(hits, images, num_images)
        if is_thing is not None:
            for name, group in (('things', is_thing[truth]), ('stuff', ~is_thing[truth])):
                scores[f'{name}_top{k}'] = ImageScores.from_hits(
                    hits[group], images[group], num_images
                )
        by_class = _class_scores(hits, truth, images, shape)
        scores[f'class_top{k}'] = by_class
        if is_thing is not None:
            for name, group in (('things', is_thing), ('stuff', ~is_thing)):
                scores[f'{name}_class_top{k}'] = ImageScores(
                    by_class.numerator[:, group], by_class.denominator[:, group]
                )
        count = by_class.denominator.sum(axis=0)
        accuracy = np.full(num_classes, np.nan)
        np.divide(by_class.numerator.sum(axis=0), count, out=accuracy, where=count > 0)
        per_class[f'top{k}'] = accuracy
    return RegionAccuracy(scores, per_class)


def _class_scores(
    hits: NDArray[np.bool_],
    truth: NDArray[np.int64],
    images: NDArray[np.int64],
    shape: tuple[int, int],
) -> ImageScores:
    right, total = np.zeros(shape), np.zeros(shape)
    np.add.at(right, (images, truth), hits.astype(np.float64))
    np.add.at(total, (images, truth), 1.0)
    return ImageScores(right, total)
