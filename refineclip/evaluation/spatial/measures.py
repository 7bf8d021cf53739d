"""Vision-centric measures of a dense map: do tokens of one thing belong together?

Every function takes one (N, D) float tensor per image, tokens L2-normalised along D, and one (N,)
integer array per image that says what each token shows, or that it does not count. Every function
returns :class:`~refineclip.evaluation.bootstrap.ImageScores`, so that two maps of the same
images compare by a paired bootstrap. Nothing is fitted on images outside the list.

Not stated in the paper; the definitions are those of common practice in self-supervised vision.
Affinity AUC and per-image clusters measure *spatial* awareness, the k-NN and the linear probe
*semantic* content; region-language alignment moves them in opposite directions, so report both.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linear_sum_assignment
from sklearn.cluster import KMeans
from sklearn.metrics import roc_auc_score
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]
from torch import Tensor

from refineclip.evaluation.bootstrap import ImageScores

Labels = Sequence[NDArray[np.int64]]


def _check(features: Sequence[Tensor], labels: Labels) -> None:
    if len(features) != len(labels):
        raise ValueError(
            f'expected one label array per image, got {len(features)} maps and {len(labels)} arrays'
        )
    for index, (tokens, label) in enumerate(zip(features, labels, strict=True)):
        if tokens.ndim != 2 or len(tokens) != len(label):
            raise ValueError(
                f'expected tokens (N, D) and N labels, got {tuple(tokens.shape)} and {len(label)} '
                f'for image {index}'
            )
        if not tokens.isfinite().all():
            raise ValueError(
                f'expected finite tokens, got NaN or infinity in image {index}; check the weights '
                'and the precision of the encoder'
            )


def _labelled(labels: Labels, measure: str, images: int) -> list[NDArray[np.bool_]]:
    """Return which tokens have a label, and refuse data that the measure is undefined on."""
    keep = [label >= 0 for label in labels]
    found = sum(bool(mask.any()) for mask in keep)
    if found < images:
        raise ValueError(
            f'{measure}: expected labelled tokens in {images} or more images, got them in {found} '
            f'of {len(labels)}; give more images or leave the measure out'
        )
    return keep


def defined(scores: ImageScores, measure: str) -> ImageScores:
    """Return the scores, and refuse a measure that no image defines."""
    if not scores.denominator.any():
        raise ValueError(
            f'{measure}: expected an image whose tokens show two or more segments, got none in '
            f'{scores.num_images} images; give other images, or smaller tokens'
        )
    return scores


def affinity_auc(features: Sequence[Tensor], segments: Labels) -> ImageScores:
    """ROC-AUC of token-token cosine: pairs of one segment against pairs of two segments.

    Args:
        features: (N, D) L2-normalised tokens per image.
        segments: (N,) segment ids per image; tokens with an id <= 0 do not count.

    Returns:
        Mean over images in [0, 1], 0.5 at chance; undefined for an image of fewer than two
        segments.
    """
    _check(features, segments)
    values = [auc_of_image(*one) for one in zip(features, segments, strict=True)]
    return defined(ImageScores.from_values(values), 'auc')


def auc_of_image(tokens: Tensor, ids: NDArray[np.int64]) -> float:
    """:func:`affinity_auc` of one image; NaN where it is undefined."""
    keep = ids > 0
    rows, columns = np.triu_indices(int(keep.sum()), k=1)
    same = ids[keep][rows] == ids[keep][columns]
    if same.all() or not same.any():
        return float('nan')
    kept = tokens.float().cpu()[torch.from_numpy(keep)]
    cosine = (kept @ kept.T).numpy()[rows, columns]
    return float(roc_auc_score(same, cosine))


def _confusion(
    rows: NDArray[np.int64], columns: NDArray[np.int64], shape: tuple[int, int]
) -> NDArray[np.float64]:
    flat = np.bincount(rows * shape[1] + columns, minlength=shape[0] * shape[1])
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


def _clusters(points: NDArray[np.float32], means: KMeans) -> NDArray[np.int64]:
    """Return the cluster of each point (M, D)."""
    # Problems this small gain nothing from threads, and wait long for each other on a busy machine.
    with threadpool_limits(1):
        return means.fit_predict(points).astype(np.int64)


def per_image_kmeans_miou(
    features: Sequence[Tensor], segments: Labels, seeds: Sequence[int] = (0, 1), restarts: int = 2
) -> ImageScores:
    """Cluster the tokens of each image alone and match the clusters to its segments.

    k is the number of segments among the counting tokens; k-means sees only those.

    Args:
        features: (N, D) L2-normalised tokens per image.
        segments: (N,) segment ids per image; tokens with an id <= 0 do not count.
        seeds: The IoU is averaged over these seeds.
        restarts: Initialisations per seed, of which the tightest clustering is taken.

    Returns:
        Mean over images of the Hungarian-matched mean IoU over segments, in [0, 1]; an image with
        fewer than two segments is undefined.
    """
    _check(features, segments)
    values = [
        kmeans_miou_of_image(tokens, ids, seeds, restarts)
        for tokens, ids in zip(features, segments, strict=True)
    ]
    return defined(ImageScores.from_values(values), 'imk')


def kmeans_miou_of_image(
    tokens: Tensor, ids: NDArray[np.int64], seeds: Sequence[int] = (0, 1), restarts: int = 2
) -> float:
    """:func:`per_image_kmeans_miou` of one image; NaN where it is undefined."""
    keep = ids > 0
    names, truth = np.unique(ids[keep], return_inverse=True)
    k = len(names)
    if k < 2:
        return float('nan')
    points = tokens.float().cpu()[torch.from_numpy(keep)].numpy()
    scores = []
    for seed in seeds:
        found = _clusters(points, KMeans(k, n_init=restarts, random_state=seed))
        scores.append(_matched_iou(_confusion(found, truth, (k, k)))[1].mean())
    return float(np.mean(scores))


def dataset_kmeans_miou(
    features: Sequence[Tensor],
    labels: Labels,
    num_clusters: int,
    num_inits: int = 5,
    max_iterations: int = 30,
) -> ImageScores:
    """Cluster the tokens of all images at once and match the clusters to classes.

    Args:
        features: (N, D) L2-normalised tokens per image.
        labels: (N,) class in [0, num_clusters) per token, e.g. COCO's 27 panoptic supercategories;
            negative does not count.
        num_clusters: Number of clusters and of classes.
        num_inits: Independent k-means runs; the measure is their mean.
        max_iterations: Lloyd iterations per run.

    Returns:
        Hungarian-matched mean IoU over the classes that occur, in [0, 1]. Resampling keeps clusters
        and matching fixed.
    """
    _check(features, labels)
    keep = _labelled(labels, 'gk', 1)
    truth = np.concatenate([label[k] for label, k in zip(labels, keep, strict=True)])
    images = np.repeat(np.arange(len(labels)), [k.sum() for k in keep])
    points = _stack(features, keep).numpy()
    if num_clusters > len(points):
        raise ValueError(
            f'gk: expected at least one labelled token per cluster, got {len(points)} tokens for '
            f'{num_clusters} clusters; give more images or leave the measure out'
        )
    if truth.max() >= num_clusters:
        raise ValueError(
            f'gk: expected labels in [0, {num_clusters}), got {truth.max()}; clusters and classes '
            'are as many'
        )
    hits, unions = [], []
    for seed in range(num_inits):
        means = KMeans(num_clusters, n_init=1, max_iter=max_iterations, random_state=seed)
        clusters = _clusters(points, means)
        shape = (num_clusters, num_clusters)
        cluster_of, _ = _matched_iou(_confusion(clusters, truth, shape))
        class_of = np.argsort(cluster_of)[clusters]
        size = (len(labels), num_clusters)
        real = _confusion(images, truth, size)
        guess = _confusion(images, class_of, size)
        hit = _confusion(images[class_of == truth], truth[class_of == truth], size)
        hits.append(hit)
        unions.append((real + guess - hit) * (real.sum(0) > 0))
    return ImageScores(np.concatenate(hits, axis=1), np.concatenate(unions, axis=1))


def _stack(features: Sequence[Tensor], keep: Sequence[NDArray[np.bool_]]) -> Tensor:
    parts = [f.float().cpu()[torch.from_numpy(k)] for f, k in zip(features, keep, strict=True)]
    return torch.cat(parts)


def knn_accuracy(
    features: Sequence[Tensor],
    labels: Labels,
    num_neighbors: int = 20,
    max_tokens: int = 10_000,
    seed: int = 0,
) -> ImageScores:
    """Classify tokens by a vote of their nearest neighbours in *other* images.

    Args:
        features: (N, D) L2-normalised tokens per image.
        labels: (N,) class per token; negative does not count.
        num_neighbors: Voters; each counts one, a tie goes to the lower class.
        max_tokens: Random tokens that serve as queries, and as many that serve as bank.
        seed: Seed of the two draws.

    Returns:
        Accuracy over the query tokens, in [0, 1].
    """
    _check(features, labels)
    keep = _labelled(labels, 'knn', 2)
    points = _stack(features, keep)
    truth = torch.from_numpy(np.concatenate([x[k] for x, k in zip(labels, keep, strict=True)]))
    images = torch.from_numpy(np.repeat(np.arange(len(labels)), [k.sum() for k in keep]))
    generator = torch.Generator().manual_seed(seed)
    query = torch.randperm(len(points), generator=generator)[:max_tokens]
    bank = torch.randperm(len(points), generator=generator)[:max_tokens]
    hits, voted = [], []
    for chunk in query.split(2000):
        similarity = points[chunk] @ points[bank].T
        similarity[images[chunk][:, None] == images[bank][None]] = -torch.inf
        k = min(num_neighbors, similarity.shape[1])
        nearest = similarity.topk(k, dim=1)
        voters = truth[bank][nearest.indices]
        votes = torch.zeros(len(chunk), int(truth.max()) + 1)
        votes.scatter_add_(1, voters, nearest.values.isfinite().float())
        hits.append(votes.argmax(1) == truth[chunk])
        voted.append(votes.any(1))
    kept = torch.cat(voted)  # a small bank may hold no token of another image
    return ImageScores.from_hits(
        torch.cat(hits)[kept].numpy(), images[query][kept].numpy(), num_images=len(labels)
    )


def ridge_accuracy(
    features: Sequence[Tensor], labels: Labels, num_folds: int = 5, ridge: float = 1.0
) -> ImageScores:
    """Classify tokens by a ridge regression on one-hot classes, cross-validated over images.

    Channels are standardised with the statistics of the training folds, so that ``ridge`` means the
    same for every encoder.

    Args:
        features: (N, D) L2-normalised tokens per image.
        labels: (N,) class per token; negative does not count.
        num_folds: The i-th image that has labelled tokens is tested in fold ``i % num_folds``.
        ridge: Weight of the squared norm; the bias is not penalised.

    Returns:
        Accuracy over the tokens of all folds, in [0, 1].
    """
    _check(features, labels)
    keep = _labelled(labels, 'ridge', 2)
    if num_folds < 2:
        raise ValueError(f'ridge: expected two or more folds, got {num_folds}')
    points = _stack(features, keep)
    truth = torch.from_numpy(np.concatenate([x[k] for x, k in zip(labels, keep, strict=True)]))
    images = np.repeat(np.arange(len(labels)), [k.sum() for k in keep])
    folds = torch.from_numpy(np.unique(images, return_inverse=True)[1] % num_folds)
    targets = torch.nn.functional.one_hot(truth).float()
    guess = torch.zeros_like(truth)
    for fold in range(num_folds):
        test = folds == fold
        if not test.any():  # fewer images than folds
            continue
        x, y = points[~test], targets[~test]
        mean_x, std_x, mean_y = x.mean(0), x.std(0).clamp_min(1e-6), y.mean(0)
        x = (x - mean_x) / std_x
        gram = x.T @ x + ridge * torch.eye(x.shape[1])
        weight = torch.linalg.solve(gram, x.T @ (y - mean_y))
        guess[test] = ((points[test] - mean_x) / std_x @ weight + mean_y).argmax(1)
    return ImageScores.from_hits((guess == truth).numpy(), images, num_images=len(labels))
