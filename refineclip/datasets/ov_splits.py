"""Base and novel classes of the open-vocabulary detection benchmarks, and their vocabularies."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from refineclip.datasets.microworld.vocabulary import NAMES, NOVEL_NAMES
from refineclip.datasets.vocabularies import read_vocabulary
from refineclip.encoders.sources import ASSETS

FOLDER = ASSETS / 'vocabularies'


@dataclass(frozen=True)
class OVSplit:
    """The classes of a benchmark, in the order of its labels.

    Attributes:
        name: Name of the split.
        classes: All classes that are tested.
        base: Those whose boxes are trained on, in the same order; empty where a split is only
            tested on (transfer).
        novel: Those that training never sees, in the same order.
    """

    name: str
    classes: tuple[str, ...]
    base: tuple[str, ...] = ()
    novel: tuple[str, ...] = ()

    @property
    def metainfo(self) -> dict[str, tuple[str, ...]]:
        """What mmdet's ``OVCocoMetric`` reads from a data set's ``metainfo``."""
        return dict(classes=self.classes, base_classes=self.base, novel_classes=self.novel)


def get_split(name: str) -> OVSplit:
    """Return a split by its name.

    - ``'ov-coco'``: 65 classes of COCO, 48 base and 17 novel (Bansal et al., ECCV 2018), in COCO's
      order, which is the published one.
    - ``'ov-coco-80'``: the same base and novel classes among all 80, whose labels differ.
    - ``'ov-lvis'``: LVIS v1, 866 base (frequent and common) and 337 novel (rare) of 1203 classes.
    - ``'microworld'``: the 16 named kinds of the drawn world, 12 base and 4 novel.
    - ``'coco'``, ``'objects365'`` (v1), ``'voc'``: all classes of a data set, for transfer.

    Raises:
        ValueError: If there is no such split.
    """
    if name not in SPLITS:
        raise ValueError(f'split: expected one of {sorted(SPLITS)}, got {name!r}')
    return SPLITS[name]()


def _read(stem: str) -> tuple[str, ...]:
    return read_vocabulary(FOLDER / f'{stem}.txt')


def _ov_coco() -> OVSplit:
    base, novel = _read('ov-coco_base'), _read('ov-coco_novel')
    kept = {*base, *novel}
    classes = tuple(name for name in _read('coco') if name in kept)
    return OVSplit('ov-coco', classes, base, novel)


def _ov_coco_80() -> OVSplit:
    return OVSplit('ov-coco-80', _read('coco'), _read('ov-coco_base'), _read('ov-coco_novel'))


def _ov_lvis() -> OVSplit:
    classes, novel = _read('lvis'), _read('ov-lvis_novel')
    rare = set(novel)
    return OVSplit('ov-lvis', classes, tuple(n for n in classes if n not in rare), novel)


def _microworld() -> OVSplit:
    base = tuple(name for name in NAMES if name not in NOVEL_NAMES)
    return OVSplit('microworld', NAMES, base, NOVEL_NAMES)


def _without_training(name: str) -> OVSplit:
    return OVSplit(name, _read(name))


SPLITS: dict[str, Callable[[], OVSplit]] = {
    'ov-coco': _ov_coco,
    'ov-coco-80': _ov_coco_80,
    'ov-lvis': _ov_lvis,
    'microworld': _microworld,
    'coco': partial(_without_training, 'coco'),
    'objects365': partial(_without_training, 'objects365'),
    'voc': partial(_without_training, 'voc'),
}
