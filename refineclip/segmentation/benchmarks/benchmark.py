"""One benchmark of open-vocabulary segmentation: data, words, ignore rule and published counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mmseg.datasets import BaseSegDataset

from .vocabulary_iou import Average

# Published table -> how it averages IoU over classes. The training-free papers use mmseg's metric,
# CAT-Seg detectron2's; 'ours' is in no table.
PROTOCOLS: dict[str, Average] = {'training-free': 'mmseg', 'cat-seg': 'labels', 'ours': 'mmseg'}


@dataclass(frozen=True)
class Benchmark:
    """One benchmark.

    Attributes:
        protocol: Table that its number can be laid beside, out of ``PROTOCOLS``. The same images
            may be in two, with other labels, words or averages.
        name: Short name, as CAT-Seg and the training-free papers write it.
        title: What it is, for tables.
        dataset: Class of the data set.
        data_root: Folder under the folder of all data.
        data_prefix: ``img_path`` and ``seg_map_path`` under ``data_root``.
        num_labels: Valid labels are [0, num_labels).
        counts: Published numbers of images; any of them is complete.
        prepare: Command that makes the labels, for messages.
        ignore_index: Label that is not scored.
        ann_file: List of images under ``data_root``.
        num_classes: Classes that are scored, where the vocabulary has more: predictions beyond
            count as the last of them.
        has_background: The vocabulary has a class of the name 'background'.
        needs: Further files under ``data_root``.
        kwargs: Further arguments of the data set.
    """

    protocol: str
    name: str
    title: str
    dataset: type[BaseSegDataset]
    data_root: str
    data_prefix: Mapping[str, str]
    num_labels: int | None
    counts: tuple[int, ...]
    prepare: str
    ignore_index: int = 255
    ann_file: str = ''
    num_classes: int | None = None
    has_background: bool = False
    needs: tuple[str, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """``'PROTOCOL/NAME'``, which no other benchmark has."""
        return f'{self.protocol}/{self.name}'

    @property
    def average(self) -> Average:
        """Over which classes the table averages."""
        return PROTOCOLS[self.protocol]

    def dataset_cfg(self, root: str | Path = 'data') -> dict[str, Any]:
        """Config of the data set, without a pipeline.

        Args:
            root: Folder of all data sets.
        """
        cfg = dict(
            type=self.dataset.__name__,
            data_root=(Path(root) / self.data_root).as_posix(),
            data_prefix=dict(self.data_prefix),
            **self.kwargs,
        )
        return {**cfg, 'ann_file': self.ann_file} if self.ann_file else cfg

    def loader_cfg(self) -> dict[str, Any]:
        """Config of the transform that loads the labels."""
        cfg: dict[str, Any] = dict(type='LoadSegLabels', num_labels=self.num_labels)
        return cfg if self.ignore_index == 255 else {**cfg, 'ignore_index': self.ignore_index}

    def evaluator_cfg(self) -> dict[str, Any]:
        """Config of the metric."""
        cfg: dict[str, Any] = dict(type='VocabularyIoUMetric', iou_metrics=['mIoU'])
        if self.average != 'mmseg':
            cfg['average'] = self.average
        if self.ignore_index != 255:
            cfg['ignore_index'] = self.ignore_index
        if self.num_classes is not None:
            cfg['num_classes'] = self.num_classes
        return cfg

    def missing(self, root: str | Path = 'data') -> list[Path]:
        """Files and folders that the benchmark needs and that are not there."""
        base = Path(root) / self.data_root
        names = [*self.data_prefix.values(), self.ann_file, *self.needs]
        return [base / name for name in names if name and not (base / name).exists()]

    def build(self, root: str | Path = 'data', pipeline: Any = ()) -> BaseSegDataset:
        """Build the data set.

        Raises:
            FileNotFoundError: If data are missing.
        """
        if missing := self.missing(root):
            raise FileNotFoundError(
                f'{self.key}: expected {self.title} under {Path(root) / self.data_root}, got no '
                f'{", ".join(map(str, missing))}; {self.prepare}'
            )
        cfg = self.dataset_cfg(root)
        del cfg['type']
        # Serializing pays off for lists of millions, and costs a garbage collection.
        return self.dataset(**cfg, pipeline=list(pipeline), test_mode=True, serialize_data=False)

    def vocabulary(self, root: str | Path = 'data') -> tuple[str, ...]:
        """Names of the classes as the data set writes them.

        Args:
            root: Folder of all data sets; the names of some lie beside their data.
        """
        if 'classes' in self.dataset.METAINFO:
            return tuple(self.dataset.METAINFO['classes'])
        return tuple(self.build(root).metainfo['classes'])
