"""Vision-centric measures of dense maps in memory: do tokens of one thing belong together?

Every function takes one (N, D) float tensor per image, tokens L2-normalised along D, and one (N,)
integer array per image that says what each token shows, or that it does not count. Every function
returns :class:`~refineclip.evaluation.bootstrap.ImageScores`, so that two maps of the same
images compare by a paired bootstrap. Nothing is fitted on images outside the list. For maps that do
not fit into memory see :class:`~refineclip.evaluation.spatial.suite.SpatialSuite`.

Not stated in the paper; the definitions are those of common practice in self-supervised vision.
Affinity AUC and per-image clusters measure *spatial* awareness, the k-NN and the linear probe
*semantic* content; region-language alignment moves them in opposite directions, so report both.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from refineclip.evaluation.bootstrap import ImageScores

from .affinity import AffinityAUC
from .clusters import DatasetClusters, ImageClusters
from .linear_probe import LinearProbe
from .neighbors import NearestNeighbors
from .token_measure import Labels, score_tokens


def affinity_auc(features: Sequence[Tensor], segments: Labels) -> ImageScores:
    """Affinity AUC, see :class:`~refineclip.evaluation.spatial.affinity.AffinityAUC`."""
    return score_tokens(AffinityAUC(segments), features)


def per_image_kmeans_miou(
    features: Sequence[Tensor], segments: Labels, **settings: Any
) -> ImageScores:
    """Clusters, see :class:`~refineclip.evaluation.spatial.clusters.ImageClusters`."""
    return score_tokens(ImageClusters(segments, **settings), features)


def dataset_kmeans_miou(
    features: Sequence[Tensor], labels: Labels, num_clusters: int, **settings: Any
) -> ImageScores:
    """Clusters, see :class:`~refineclip.evaluation.spatial.clusters.DatasetClusters`."""
    return score_tokens(DatasetClusters(labels, num_clusters, **settings), features)


def knn_accuracy(features: Sequence[Tensor], labels: Labels, **settings: Any) -> ImageScores:
    """Neighbours, see :class:`~refineclip.evaluation.spatial.neighbors.NearestNeighbors`."""
    return score_tokens(NearestNeighbors(labels, **settings), features)


def ridge_accuracy(features: Sequence[Tensor], labels: Labels, **settings: Any) -> ImageScores:
    """A linear probe, see :class:`~refineclip.evaluation.spatial.linear_probe.LinearProbe`."""
    return score_tokens(LinearProbe(labels, **settings), features)
