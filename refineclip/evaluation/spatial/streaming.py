"""Spatial measures of several encoders on any number of images, in memory that does not grow."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence

from mmengine.logging import print_log
from torch import Tensor
from torch.nn import functional as F

from refineclip.encoders.text.text_bank import from_first_process

from ..bootstrap import ImageScores
from ..encoders.shared_trunk import DenseEncoder
from ..feature_store import FeatureStore
from ..panoptic_evaluation import PanopticEvaluation
from ..streams import ImageStream
from .suite import SpatialSuite

# Maps are kept in memory between passes up to this, and else computed again.
KEPT_BYTES = 2**28


def stream_spatial_scores(
    evaluation: PanopticEvaluation,
    encoders: Mapping[str, DenseEncoder],
    measures: Sequence[str] | None = None,
    store: FeatureStore | None = None,
) -> dict[str, dict[str, ImageScores]]:
    """Score every encoder, all of them on one image before the next is read.

    Labels of all tokens are held (6 bytes a token), samples of fixed size and sums; maps only up to
    256 MiB. ``gk`` and ``ridge`` need every map twice. Processes share the images.

    Args:
        evaluation: The images.
        encoders: By name.
        measures: Some of :data:`~refineclip.evaluation.spatial.suite.MEASURES`; all by default.
        store: Keeps maps on disk, for the second pass and for later calls.

    Returns:
        Encoder -> measure -> scores, those of
        :meth:`~refineclip.evaluation.panoptic_evaluation.PanopticEvaluation.spatial_scores`.

    Raises:
        ValueError: If a map is not finite, or there are too few images or labels for a measure.
    """
    labels = evaluation.labels()
    segments, classes = [one.segments for one in labels], [one.classes for one in labels]
    supers = evaluation.dataset.class_to_super
    suites = {name: SpatialSuite(segments, classes, supers, measures) for name in encoders}
    maps = _Maps(evaluation, encoders, store or FeatureStore(None))
    num_passes = max(suite.num_passes for suite in suites.values())
    for turn in range(num_passes):
        for index, of_image in maps.all(keep=turn + 1 < num_passes):
            for name, one in of_image.items():
                tokens = F.normalize(one[0].flatten(1).T.float(), dim=1)
                suites[name].update(turn, index, tokens)
        for suite in suites.values():
            suite.meet(turn)
    return from_first_process(lambda: {name: suite.scores() for name, suite in suites.items()})


class _Maps:
    """Dense maps of this process's images, again and again."""

    def __init__(
        self,
        evaluation: PanopticEvaluation,
        encoders: Mapping[str, DenseEncoder],
        store: FeatureStore,
    ) -> None:
        self.evaluation, self.store = evaluation, store
        self.of_image = store.maps(evaluation, encoders)
        self.kept: list[dict[str, Tensor]] | None = None

    def all(self, keep: bool) -> Iterator[tuple[int, dict[str, Tensor]]]:
        """Image and its maps by encoder, in order; ``keep`` those that will be asked for again."""
        stream = ImageStream(len(self.evaluation.dataset), track=self.evaluation.track)
        if self.kept is not None:
            yield from zip(stream.missing, self.kept, strict=True)
            return
        kept: list[dict[str, Tensor]] | None = [] if keep else None
        for index in stream:
            one = self.of_image(index)
            if kept == []:
                size = sum(value.nbytes for value in one.values()) * len(stream.missing)
                if size > KEPT_BYTES:
                    kept = None
                    self._say_that_none_is_kept(size)
            if kept is not None:
                kept.append(one)
            yield index, one
        self.kept = kept

    def _say_that_none_is_kept(self, size: int) -> None:
        again = 'read again' if self.store.folder is not None else 'computed twice (or --cache-dir)'
        print_log(
            f'dense maps of {size / 2**30:.1f} GiB are not held in memory but {again}',
            logger='current',
            level=logging.WARNING,
        )
