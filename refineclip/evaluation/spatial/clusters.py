"""k-means of tokens, within each image and over all of them, matched to what they show."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from sklearn.cluster import KMeans
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]
from torch import Tensor

from refineclip.evaluation.bootstrap import ImageScores

from ..streams.meeting import add_up
from .affinity import PerImageMeasure
from .token_measure import Labels, TokenMeasure, TokenSample, labelled

MAX_TOKENS = 200_000  # 400 MB of 512 channels


class ImageClusters(PerImageMeasure):
    """Cluster the tokens of each image alone and match the clusters to its segments.

    k is the number of segments among the counting tokens; k-means sees only those.

    Args:
        labels: (N,) segment ids per image; tokens with an id <= 0 do not count.
        seeds: The IoU is averaged over these seeds.
        restarts: Initialisations per seed, of which the tightest clustering is taken.
    """

    name = 'imk'

    def __init__(self, labels: Labels, seeds: Sequence[int] = (0, 1), restarts: int = 2) -> None:
        super().__init__(labels)
        self.seeds, self.restarts = seeds, restarts

    def of_image(self, tokens: Tensor, ids: NDArray[np.integer]) -> float:
        """Matched mean IoU over the segments, in [0, 1]; NaN for fewer than two."""
        return kmeans_miou_of_image(tokens, ids, self.seeds, self.restarts)


class DatasetClusters(TokenMeasure):
    """Cluster the tokens of all images at once and match the clusters to classes.

    Clusters are found on at most ``max_tokens`` tokens, and are given to all in a second pass.

    Args:
        labels: (N,) class in [0, num_clusters) per token, e.g. COCO's 27 panoptic supercategories;
            negative does not count.
        num_clusters: Number of clusters and of classes.
        num_inits: Independent k-means runs; the measure is their mean.
        max_iterations: Lloyd iterations per run.
        max_tokens: More tokens than these are drawn from at random.
        seed: Seed of that draw.
    """

    num_passes = 2

    def __init__(
        self,
        labels: Labels,
        num_clusters: int,
        num_inits: int = 5,
        max_iterations: int = 30,
        max_tokens: int = MAX_TOKENS,
        seed: int = 0,
    ) -> None:
        super().__init__(labels)
        self.keep = labelled(labels, 'gk', 1)
        counts = np.array([mask.sum() for mask in self.keep])
        total = int(counts.sum())
        if num_clusters > total:
            raise ValueError(
                f'gk: expected at least one labelled token per cluster, got {total} tokens for '
                f'{num_clusters} clusters; give more images or leave the measure out'
            )
        highest = max(int(label.max(initial=-1)) for label in labels)
        if highest >= num_clusters:
            raise ValueError(
                f'gk: expected labels in [0, {num_clusters}), got {highest}; clusters and classes '
                'are as many'
            )
        drawn = np.arange(total)
        if total > max_tokens:
            generator = torch.Generator().manual_seed(seed)
            drawn = torch.randperm(total, generator=generator)[:max_tokens].clone().numpy()
        self.sample: TokenSample | None = TokenSample(drawn, counts)
        self.runs = [
            KMeans(num_clusters, n_init=1, max_iter=max_iterations, random_state=one)
            for one in range(num_inits)
        ]
        # Tokens by image, run, cluster and class.
        shape = (len(labels), num_inits, num_clusters, num_clusters)
        self.counts = np.zeros(shape, dtype=np.int32)

    def update(self, turn: int, index: int, tokens: Tensor) -> None:
        """Gather tokens for the clustering, then give every token its cluster."""
        keep = self.keep[index]
        if not keep.any():
            return
        kept = tokens.float().cpu()[torch.from_numpy(keep)]
        if turn == 0:
            assert self.sample is not None
            self.sample.add(index, kept)
            return
        self._fit()
        truth = self.labels[index][keep]
        size = self.counts.shape[-1]
        for number, means in enumerate(self.runs):
            with threadpool_limits(1):
                found = means.predict(kept.numpy())
            self.counts[index, number] = _confusion(found, truth, (size, size))

    def _fit(self) -> None:
        if self.sample is None:
            return
        assert self.sample.tokens is not None
        points = self.sample.tokens.numpy()
        self.sample = None
        for means in self.runs:
            # Problems this small gain nothing from threads, and wait long for each other on a busy
            # machine.
            with threadpool_limits(1):
                means.fit(points)

    def meet(self, turn: int) -> None:
        """See :meth:`TokenMeasure.meet`; every process then finds the same clusters."""
        if turn == 1:
            add_up(self.counts)
            return
        assert self.sample is not None
        self.sample.meet()

    def scores(self) -> ImageScores:
        """Matched mean IoU over the classes that occur; resampling keeps clusters and matching."""
        hits, unions = [], []
        for counts in self.counts.astype(np.float64).swapaxes(0, 1):
            cluster_of, _ = _matched_iou(counts.sum(0))
            matched = counts[:, cluster_of]  # (I, predicted class, class)
            hit = np.diagonal(matched, axis1=1, axis2=2)
            real, guess = matched.sum(1), matched.sum(2)
            hits.append(hit)
            unions.append((real + guess - hit) * (real.sum(0) > 0))
        return ImageScores(np.concatenate(hits, axis=1), np.concatenate(unions, axis=1))


def kmeans_miou_of_image(
    tokens: Tensor, ids: NDArray[np.integer], seeds: Sequence[int] = (0, 1), restarts: int = 2
) -> float:
    """:class:`ImageClusters` of one image; NaN where it is undefined."""
    keep = ids > 0
    names, truth = np.unique(ids[keep], return_inverse=True)
    k = len(names)
    if k < 2:
        return float('nan')
    points = tokens.float().cpu()[torch.from_numpy(keep)].numpy()
    scores = []
    for seed in seeds:
        with threadpool_limits(1):
            found = KMeans(k, n_init=restarts, random_state=seed).fit_predict(points)
        scores.append(_matched_iou(_confusion(found, truth, (k, k)))[1].mean())
    return float(np.mean(scores))


def _confusion(
    rows: NDArray[np.integer], columns: NDArray[np.integer], shape: tuple[int, int]
) -> NDArray[np.float64]:
    flat = np.bincount(rows * np.int64(shape[1]) + columns, minlength=shape[0] * shape[1])
    return flat.reshape(shape).astype(np.float64)


def _matched_iou(confusion: NDArray[np.float64]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Match clusters (rows) to classes (columns) for the largest sum of IoU.

    Returns:
        The cluster of every class (C,), -1 for none, and the IoU of every class (C,).
    """
    union = confusion.sum(1, keepdims=True) + confusion.sum(0, keepdims=True) - confusion
    iou = np.divide(confusion, union, out=np.zeros_like(confusion), where=union > 0)
    clusters, classes = linear_sum_assignment(iou, maximize=True)
    cluster_of = np.full(confusion.shape[1], -1, dtype=np.int64)
    cluster_of[classes] = clusters
    values = np.zeros(confusion.shape[1])
    values[classes] = iou[clusters, classes]
    return cluster_of, values
