"""mIoU and pixel accuracy of clusters that are matched to classes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from mmengine.evaluator import BaseMetric
from mmengine.registry import METRICS
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment


def confusion(
    labels: NDArray[np.integer], clusters: NDArray[np.integer], num_classes: int, num_clusters: int
) -> NDArray[np.int64]:
    """Count pixels by class and cluster.

    Args:
        labels: Class per pixel, any shape; values of ``num_classes`` or more (255) do not count.
        clusters: Cluster per pixel, same shape, in [0, num_clusters).
        num_classes: C.
        num_clusters: K.

    Returns:
        (C, K) counts.

    Raises:
        ValueError: If shapes differ or a cluster is out of range.
    """
    if labels.shape != clusters.shape:
        raise ValueError(
            f'expected labels and clusters of one shape, got {labels.shape} and {clusters.shape}'
        )
    valid = (labels >= 0) & (labels < num_classes)
    truth, found = labels[valid].astype(np.int64), clusters[valid].astype(np.int64)
    if found.size and not 0 <= found.min() <= found.max() < num_clusters:
        raise ValueError(
            f'expected clusters in [0, {num_clusters}), got {found.min()}..{found.max()}; set '
            'num_clusters of the metric to that of the model'
        )
    flat = np.bincount(truth * num_clusters + found, minlength=num_classes * num_clusters)
    return flat.reshape(num_classes, num_clusters)


def match_clusters(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """Give every cluster at most one class so that most pixels are right.

    Args:
        counts: (C, K).

    Returns:
        (K,) class of each cluster, -1 for none (K > C).
    """
    classes, clusters = linear_sum_assignment(counts, maximize=True)
    class_of = np.full(counts.shape[1], -1, dtype=np.int64)
    class_of[clusters] = classes
    return class_of


def matched_scores(counts: NDArray[np.int64]) -> tuple[NDArray[np.float64], float]:
    """IoU per class and pixel accuracy after matching.

    Args:
        counts: (C, K).

    Returns:
        (C,) IoU, NaN for a class that no pixel has, 0 for one that no cluster got; and the share of
        labelled pixels that are right, NaN without any.
    """
    class_of = match_clusters(counts)
    hits, guesses = np.zeros(len(counts)), np.zeros(len(counts))
    for cluster, label in enumerate(class_of):
        if label >= 0:
            hits[label] = counts[label, cluster]
            guesses[label] = counts[:, cluster].sum()
    truth = counts.sum(axis=1)
    iou = np.full(len(counts), np.nan)
    np.divide(hits, truth + guesses - hits, out=iou, where=truth > 0)
    total = truth.sum()
    return iou, float(hits.sum() / total) if total else float('nan')


@METRICS.register_module()
class HungarianSegMetric(BaseMetric):
    """``cause/mIoU`` and ``cause/pAcc`` in percent, over the fixed classes of the data set.

    Clusters of the whole data set are matched to classes once, for the most pixels (as PiCIE and
    STEGO evaluate). The mean is over the classes that occur; ``cause/classes`` says how many did.

    Args:
        num_classes: C.
        num_clusters: K; default C.
        collect_device: As for mmengine's metrics.
        prefix: As for mmengine's metrics.
    """

    default_prefix = 'cause'

    def __init__(
        self,
        num_classes: int = 27,
        num_clusters: int | None = None,
        collect_device: str = 'cpu',
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device, prefix)
        self.num_classes = num_classes
        self.num_clusters = num_clusters or num_classes

    def process(self, data_batch: dict[str, Any], data_samples: Sequence[dict[str, Any]]) -> None:
        """Count one batch.

        Args:
            data_batch: Holds ``labels``, (B, H, W) or a list of (H, W).
            data_samples: Dicts with ``clusters`` (H, W).

        Raises:
            ValueError: If the data set was built without labels.
        """
        if 'labels' not in data_batch:
            raise ValueError(
                'expected labels in the batch, got none; set with_labels=True in the data set'
            )
        for labels, sample in zip(data_batch['labels'], data_samples, strict=True):
            counts = confusion(
                np.asarray(labels),
                np.asarray(sample['clusters']),
                self.num_classes,
                self.num_clusters,
            )
            self.results.append(counts)

    def compute_metrics(self, results: list[NDArray[np.int64]]) -> dict[str, float]:
        """Match once and score.

        Raises:
            ValueError: If no pixel of any image has a class.
        """
        counts = np.sum(results, axis=0)
        if not counts.any():
            raise ValueError(
                'expected labelled pixels, got none in the whole data set; are the label maps '
                'those of this data set?'
            )
        iou, accuracy = matched_scores(counts)
        return {
            'mIoU': 100 * float(np.nanmean(iou)),
            'pAcc': 100 * accuracy,
            'classes': float((~np.isnan(iou)).sum()),
        }
