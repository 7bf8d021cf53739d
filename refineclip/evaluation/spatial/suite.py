"""The five spatial measures under their short names, with this project's settings."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ..bootstrap import ImageScores
from .affinity import AffinityAUC, auc_of_image, defined
from .clusters import MAX_TOKENS, DatasetClusters, ImageClusters, kmeans_miou_of_image
from .linear_probe import LinearProbe
from .neighbors import NearestNeighbors
from .token_measure import Labels, TokenMeasure, check_tokens

# What the measures are called with; not stated in the paper, from this project's pilots.
SETTINGS: dict[str, dict[str, Any]] = {
    'auc': {},
    'imk': {'seeds': (0, 1), 'restarts': 2},
    'gk': {'num_inits': 5, 'max_iterations': 30, 'max_tokens': MAX_TOKENS},
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


class SpatialSuite:
    """Several measures that see the tokens of one image at a time, and none of them again.

    Memory does not grow with the tokens: what k-means, neighbours and the probe need is a sample of
    fixed size and sums.

    Args:
        segments: (N,) panoptic segment id per token, 0 for none, per image.
        classes: (N,) category per token, -1 for none.
        class_to_super: (C,) supercategory of each category, for ``gk``.
        measures: Some of :data:`MEASURES`; all by default.

    Raises:
        ValueError: On an unknown name, or where a measure is undefined for these labels.
    """

    def __init__(
        self,
        segments: Labels,
        classes: Labels,
        class_to_super: NDArray[np.int64],
        measures: Sequence[str] | None = None,
    ) -> None:
        chosen = check_measures(measures)
        supers = [
            np.where(label >= 0, class_to_super[label], -1).astype(np.int16) for label in classes
        ]
        calls: dict[str, Callable[..., TokenMeasure]] = {
            'auc': partial(AffinityAUC, segments),
            'imk': partial(ImageClusters, segments),
            'gk': partial(DatasetClusters, supers, int(class_to_super.max()) + 1),
            'knn': partial(NearestNeighbors, classes),
            'ridge': partial(LinearProbe, classes),
        }
        self.labels = segments
        self.measures = {name: calls[name](**SETTINGS[name]) for name in chosen}

    @property
    def num_passes(self) -> int:
        """How often every image has to pass."""
        return max(measure.num_passes for measure in self.measures.values())

    def update(self, turn: int, index: int, tokens: Tensor) -> None:
        """Take in one image.

        Args:
            turn: Which pass this is, from 0.
            index: Position of the image among the labels.
            tokens: (N, D) L2-normalised.

        Raises:
            ValueError: On tokens that do not fit the labels or are not finite.
        """
        check_tokens(tokens, self.labels[index], index)
        for measure in self.measures.values():
            if turn < measure.num_passes:
                measure.update(turn, index, tokens)

    def meet(self, turn: int) -> None:
        """Bring together what processes gathered in a pass that they shared the images of."""
        for measure in self.measures.values():
            if turn < measure.num_passes:
                measure.meet(turn)

    def scores(self) -> dict[str, ImageScores]:
        """Scores by measure, once all images have passed.

        ``auc`` affinity AUC, ``imk`` k-means within each image, ``gk`` k-means over all images
        against supercategories, ``knn`` and ``ridge`` patch classification over categories.
        """
        return {name: measure.scores() for name, measure in self.measures.items()}


def spatial_scores(
    tokens: Sequence[Tensor],
    segments: Labels,
    classes: Labels,
    class_to_super: NDArray[np.int64],
    measures: Sequence[str] | None = None,
) -> dict[str, ImageScores]:
    """Score tokens (N, D), L2-normalised, that are in memory; see :class:`SpatialSuite`."""
    suite = SpatialSuite(segments, classes, class_to_super, measures)
    for turn in range(suite.num_passes):
        for index, one in enumerate(tokens):
            suite.update(turn, index, one)
    return suite.scores()


def scores_of_image(
    tokens: Tensor, segments: NDArray[np.integer], measures: Sequence[str]
) -> dict[str, float]:
    """Values of one image by some of :data:`PER_IMAGE`; NaN where they are undefined.

    Args:
        tokens: (N, D) L2-normalised.
        segments: (N,) panoptic segment id per token, 0 for none.
        measures: Names.
    """
    calls = {'auc': auc_of_image, 'imk': kmeans_miou_of_image}
    return {name: calls[name](tokens, segments, **SETTINGS[name]) for name in measures}


def mean_over_images(measure: str, values: Sequence[float]) -> ImageScores:
    """Collect what :func:`scores_of_image` said of every image.

    Raises:
        ValueError: If the measure is defined for none of them.
    """
    return defined(ImageScores.from_values(values), measure)
