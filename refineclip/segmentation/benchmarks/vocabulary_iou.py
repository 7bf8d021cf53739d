"""mmseg's IoU for vocabularies wider than what is scored, averaged as published tables do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
from mmengine.registry import METRICS
from mmseg.evaluation import IoUMetric

Average = Literal['mmseg', 'labels']
AVERAGES: dict[Average, str] = {
    'mmseg': 'mean over the classes that are in the labels or were predicted, as in mmseg',
    'labels': 'mean over the classes that are in the labels, as in detectron2',
}


@METRICS.register_module()
class VocabularyIoUMetric(IoUMetric):
    """mmseg's ``IoUMetric`` that can score a part of the vocabulary, and keeps each class's IoU.

    ``mIoU`` and the groups are averaged as ``average`` says; ``mIoU_mmseg`` and ``mIoU_labels`` are
    both returned. They differ by classes that no label holds and some pixel was given to: 0 in
    mmseg's mean, left out of the other.

    Args:
        average: ``'mmseg'``, mean over the classes in the labels or predictions; or ``'labels'``,
            over those in the labels, as CAT-Seg is evaluated (``SemSegEvaluator`` of detectron2
            since July 2022).
        num_classes: Score the first ``num_classes`` labels only; predictions beyond count as the
            last of them. VOC20b names 59 classes and scores 20 and their background. Default: all.
        groups: Name -> classes whose mean IoU is also returned, as ``mIoU_NAME``; e.g. those that
            training had no label for.
        **kwargs: Those of mmseg's ``IoUMetric``.

    Attributes:
        class_iou: IoU of each class in per cent after :meth:`compute_metrics`; NaN where a class
            was neither there nor predicted.

    Raises:
        ValueError: If the average is unknown, or a group is empty, names a class that the data set
            lacks, or has the name of an average.
    """

    def __init__(
        self,
        average: Average = 'mmseg',
        num_classes: int | None = None,
        groups: Mapping[str, Sequence[str]] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if average not in AVERAGES:
            raise ValueError(f'average: expected one of {list(AVERAGES)}, got {average!r}')
        if taken := sorted(AVERAGES.keys() & set(groups or {})):
            raise ValueError(f'groups: expected other names than those of averages, got {taken}')
        self.average = average
        self.num_classes = num_classes
        self.groups = dict(groups or {})
        self.class_iou: list[float] = []

    @property
    def dataset_meta(self) -> dict | None:
        """Metainfo of the data set, cut to what is scored."""
        return self._dataset_meta

    @dataset_meta.setter
    def dataset_meta(self, meta: dict) -> None:
        if self.num_classes is not None:
            classes = [*meta['classes'][: self.num_classes - 1], 'background']
            meta = {**meta, 'classes': tuple(classes)}
        for name, members in self.groups.items():
            unknown = [member for member in members if member not in meta['classes']]
            if unknown or not members:
                raise ValueError(
                    f'groups[{name!r}]: expected classes of the data set, got {list(members)}, '
                    f'unknown {unknown}'
                )
        self._dataset_meta = meta

    def process(self, data_batch: dict, data_samples: Sequence[dict]) -> None:
        """Score a batch; see mmseg."""
        if self.num_classes is not None:
            for sample in data_samples:
                sample['pred_sem_seg']['data'].clamp_(max=self.num_classes - 1)
        super().process(data_batch, data_samples)

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Sum the areas of all images; see mmseg."""
        metrics = super().compute_metrics(results)
        if self.format_only:
            return metrics
        intersection, union, _, label = (sum(areas).numpy() for areas in zip(*results))  # noqa: B905
        with np.errstate(invalid='ignore'):
            iou = 100 * intersection / union
        self.class_iou = iou.tolist()
        in_labels = np.where(label > 0, iou, np.nan)
        if 'mIoU' in metrics:
            metrics['mIoU_mmseg'] = metrics['mIoU']
            metrics['mIoU_labels'] = _mean(in_labels)
            metrics['mIoU'] = metrics[f'mIoU_{self.average}']
        assert self.dataset_meta is not None  # the evaluator sets it first
        classes = self.dataset_meta['classes']
        scored = in_labels if self.average == 'labels' else iou
        for name, members in self.groups.items():
            # By position: classes may have equal names, which are then all of the group.
            metrics[f'mIoU_{name}'] = _mean(
                [value for one, value in zip(classes, scored, strict=True) if one in members]
            )
        return metrics


def _mean(values: Sequence[float] | np.ndarray) -> float:
    return float(np.round(np.nanmean(values), 2))
