"""mmseg's IoU for vocabularies that are wider than what is scored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from mmengine.registry import METRICS
from mmseg.evaluation import IoUMetric


@METRICS.register_module()
class VocabularyIoUMetric(IoUMetric):
    """mmseg's ``IoUMetric`` that can score a part of the vocabulary, and keeps each class's IoU.

    Args:
        num_classes: Score the first ``num_classes`` labels only; predictions beyond count as the
            last of them. VOC20b names 59 classes and scores 20 and their background. Default: all.
        groups: Name -> classes whose mean IoU is also returned, as ``mIoU_NAME``; e.g. those that
            training had no label for.
        **kwargs: Those of mmseg's ``IoUMetric``.

    Attributes:
        class_iou: IoU of each class in per cent after :meth:`compute_metrics`; NaN where a class
            was neither there nor predicted.

    Raises:
        ValueError: If a group is empty or names a class that the data set lacks.
    """

    def __init__(
        self,
        num_classes: int | None = None,
        groups: Mapping[str, Sequence[str]] | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
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
        intersection, union = (sum(areas).numpy() for areas in list(zip(*results))[:2])  # noqa: B905
        with np.errstate(invalid='ignore'):
            self.class_iou = (100 * intersection / union).tolist()
        assert self.dataset_meta is not None  # the evaluator sets it first
        iou = dict(zip(self.dataset_meta['classes'], self.class_iou, strict=True))
        for name, members in self.groups.items():
            values = [iou[member] for member in members]
            metrics[f'mIoU_{name}'] = float(np.round(np.nanmean(values), 2))
        return metrics
