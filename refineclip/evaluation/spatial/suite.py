"""The five spatial measures under their short names, with this project's settings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ..bootstrap import ImageScores
from . import measures as spatial

Labels = Sequence[NDArray[np.int64]]

# What the measures are called with; not stated in the paper, from this project's pilots.
SETTINGS: dict[str, dict[str, Any]] = {
    'auc': {},
    'imk': {'seeds': (0, 1), 'restarts': 2},
    'gk': {'num_inits': 5, 'max_iterations': 30},
    'knn': {'num_neighbors': 20, 'max_tokens': 10_000, 'seed': 0},
    'ridge': {'num_folds': 5, 'ridge': 1.0},
}
MEASURES = tuple(SETTINGS)


# Those that are a mean over images of what each says alone.
PER_IMAGE = ('auc', 'imk')


def check_measures(measures: Sequence[str] | None) -> tuple[str, ...]:
    """Return the names of measures, all for None.

    Raises:
        ValueError: On an unknown name, or none.
    """
    chosen = MEASURES if measures is None else tuple(measures)
    if not chosen or any(name not in MEASURES for name in chosen):
        raise ValueError(f'measures: expected some of {MEASURES}, got {chosen}')
    return chosen


def spatial_scores(
    tokens: Sequence[Tensor],
    segments: Labels,
    classes: Labels,
    class_to_super: NDArray[np.int64],
    measures: Sequence[str] | None = None,
) -> dict[str, ImageScores]:
    """Score the tokens of dense maps without any text.

    Args:
        tokens: (N, D) L2-normalised tokens per image.
        segments: (N,) panoptic segment id per token, 0 for none.
        classes: (N,) category per token, -1 for none.
        class_to_super: (C,) supercategory of each category, for ``gk``.
        measures: Some of :data:`MEASURES`; all by default.

    Returns:
        ``auc`` affinity AUC, ``imk`` k-means within each image, ``gk`` k-means over all images
        against supercategories, ``knn`` and ``ridge`` patch classification over categories.

    Raises:
        ValueError: On an unknown name, or where a measure is undefined on these images.
    """
    chosen = check_measures(measures)
    supers = [np.where(label >= 0, class_to_super[label], -1) for label in classes]
    num_supers = int(class_to_super.max()) + 1
    calls: dict[str, Callable[..., ImageScores]] = {
        'auc': partial(spatial.affinity_auc, tokens, segments),
        'imk': partial(spatial.per_image_kmeans_miou, tokens, segments),
        'gk': partial(spatial.dataset_kmeans_miou, tokens, supers, num_supers),
        'knn': partial(spatial.knn_accuracy, tokens, classes),
        'ridge': partial(spatial.ridge_accuracy, tokens, classes),
    }
    return {name: calls[name](**SETTINGS[name]) for name in chosen}


def scores_of_image(
    tokens: Tensor, segments: NDArray[np.int64], measures: Sequence[str]
) -> dict[str, float]:
    """Values of one image by some of :data:`PER_IMAGE`; NaN where they are undefined.

    Args:
        tokens: (N, D) L2-normalised.
        segments: (N,) panoptic segment id per token, 0 for none.
        measures: Names.
    """
    calls = {'auc': spatial.auc_of_image, 'imk': spatial.kmeans_miou_of_image}
    return {name: calls[name](tokens, segments, **SETTINGS[name]) for name in measures}


def mean_over_images(measure: str, values: Sequence[float]) -> ImageScores:
    """Collect what :func:`scores_of_image` said of every image.

    Raises:
        ValueError: If the measure is defined for none of them.
    """
    return spatial.defined(ImageScores.from_values(values), measure)
