"""Data sets of open-vocabulary segmentation that mmseg does not have."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from mmengine.registry import DATASETS
from mmseg.datasets import (
    BaseSegDataset,
    COCOStuffDataset,
    PascalContextDataset59,
    PascalVOCDataset,
)

from refineclip.datasets.coco_panoptic import CocoPanoptic
from refineclip.datasets.vocabularies import read_class_list
from refineclip.encoders.text.embedder import read_names

_VOC_THINGS = PascalVOCDataset.METAINFO['classes'][1:]
_VOC_PALETTE = PascalVOCDataset.METAINFO['palette'][1:]
_CONTEXT_ONLY = tuple(
    name
    for name in PascalContextDataset59.METAINFO['classes']
    # mmseg's Context calls VOC's diningtable a table.
    if name not in _VOC_THINGS and name != 'table'
)


@DATASETS.register_module()
class CATSegContext59Dataset(PascalContextDataset59):
    """mmseg's ``PascalContextDataset59`` with 'diningtable' in the place of its 'table'.

    So CAT-Seg asks for it (arXiv 2303.11797, released ``pc59.json``); all else is the same.
    """

    METAINFO: ClassVar[dict] = {
        **PascalContextDataset59.METAINFO,
        'classes': tuple(
            'diningtable' if name == 'table' else name
            for name in PascalContextDataset59.METAINFO['classes']
        ),
    }


@DATASETS.register_module()
class PascalVOC20Dataset(BaseSegDataset):
    """VOC 2012 without its background, which is ignored; reads VOC's label files as they are.

    Args:
        reduce_zero_label: As in mmseg; label 0 is the background.
        **kwargs: Those of mmseg's ``BaseSegDataset``.
    """

    METAINFO: ClassVar[dict] = dict(classes=_VOC_THINGS, palette=_VOC_PALETTE)

    def __init__(self, reduce_zero_label: bool = True, **kwargs: Any) -> None:
        super().__init__(reduce_zero_label=reduce_zero_label, **kwargs)


@DATASETS.register_module()
class PascalVOC20bDataset(BaseSegDataset):
    """VOC 2012 where whatever is named by a class of Pascal-Context only is background.

    The vocabulary is the 59 names of Pascal-Context, VOC's 20 first. Label 20 is VOC's background;
    the metric takes predictions of 20 and more as 20 (``num_classes=21``). As CAT-Seg evaluates
    (arXiv 2303.11797). Reads VOC's label files as they are.

    Args:
        **kwargs: Those of mmseg's ``BaseSegDataset``.
    """

    METAINFO: ClassVar[dict] = dict(classes=(*_VOC_THINGS, *_CONTEXT_ONLY))

    @classmethod
    def get_label_map(cls, new_classes: Sequence[str] | None = None) -> dict[int, int]:
        """Background 0 of the file becomes 20, class k becomes k - 1."""
        return {0: 20, **{label: label - 1 for label in range(1, 21)}}


@DATASETS.register_module()
class COCOObjectDataset(BaseSegDataset):
    """COCO's 80 objects and background, labels made by ``tools/prepare/coco_object.py``.

    The background is all stuff and all that nobody labelled, as in GroupViT (arXiv 2202.11094).

    Args:
        seg_map_suffix: End of the label files' names.
        **kwargs: Those of mmseg's ``BaseSegDataset``.
    """

    METAINFO: ClassVar[dict] = dict(
        classes=('background', *COCOStuffDataset.METAINFO['classes'][:80]),
        palette=[[0, 0, 0], *COCOStuffDataset.METAINFO['palette'][:80]],
    )

    def __init__(self, seg_map_suffix: str = '_instanceTrainIds.png', **kwargs: Any) -> None:
        super().__init__(seg_map_suffix=seg_map_suffix, **kwargs)


class _NamedByFile(BaseSegDataset):
    """A data set whose class names lie in a file beside its images.

    Args:
        class_file: File under ``data_root``.
        num_names: How many names it must have.
        **kwargs: Those of mmseg's ``BaseSegDataset``.

    Raises:
        FileNotFoundError: If the file is not there.
        ValueError: If it has another number of names.
    """

    def __init__(self, class_file: str, num_names: int, **kwargs: Any) -> None:
        path = Path(kwargs.get('data_root') or '') / class_file
        names = self.read_names(path)
        if len(names) != num_names:
            raise ValueError(f'{path}: expected {num_names} class names, got {len(names)}')
        metainfo = {'classes': tuple(names), **(kwargs.pop('metainfo', None) or {})}
        super().__init__(metainfo=metainfo, **kwargs)

    @staticmethod
    def read_names(path: Path) -> list[str]:
        """Read the names in the order of the labels, by which equal ones are told apart."""
        return list(read_class_list(path) or read_names(path))


@DATASETS.register_module()
class ADE20K847Dataset(_NamedByFile):
    """The full ADE20K with 847 classes: 16-bit labels, 65535 is ignored.

    Made by ``tools/prepare/ade20k_847.py`` in the layout that MaskFormer's tool made first.

    Args:
        class_file: JSON list of ids and names (or names alone), written by the tool.
        seg_map_suffix: End of the label files' names.
        ignore_index: Label that is not scored.
        **kwargs: Those of mmseg's ``BaseSegDataset``.
    """

    def __init__(
        self,
        class_file: str = 'classes_847.json',
        seg_map_suffix: str = '.tif',
        ignore_index: int = 65535,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            class_file, 847, seg_map_suffix=seg_map_suffix, ignore_index=ignore_index, **kwargs
        )


@DATASETS.register_module()
class PascalContext459Dataset(_NamedByFile):
    """Pascal-Context with all 459 classes: 16-bit labels made by a tool of ``tools/prepare``.

    The images are those whose labels lie in ``seg_map_path``.

    Args:
        class_file: ``labels.txt`` of the set, ``number: name`` a line.
        seg_map_suffix: End of the label files' names.
        ignore_index: Label that is not scored.
        **kwargs: Those of mmseg's ``BaseSegDataset``.
    """

    def __init__(
        self,
        class_file: str = 'labels.txt',
        seg_map_suffix: str = '.tif',
        ignore_index: int = 65535,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            class_file, 459, seg_map_suffix=seg_map_suffix, ignore_index=ignore_index, **kwargs
        )

    @staticmethod
    def read_names(path: Path) -> list[str]:
        """Read ``labels.txt``; the labels of the files are its numbers less one."""
        return list(read_context_labels(path).values())

    def load_data_list(self) -> list[dict]:
        """List the images that have labels; JPEGImages holds all of VOC 2010."""
        folder = Path(self.data_prefix['seg_map_path'])
        return [one for one in super().load_data_list() if (folder / _name(one)).is_file()]


def _name(info: dict) -> str:
    return Path(info['seg_map_path']).name


def read_context_labels(path: str | Path) -> dict[int, str]:
    """Read ``labels.txt`` of Pascal-Context: number (from 1) -> name, in order.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the numbers are not 1, 2, 3, ...
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(
            f'expected labels.txt of Pascal-Context at {path}, got no file; it comes with the '
            'annotations'
        )
    lines = [line.split(':', 1) for line in path.read_text().splitlines() if ':' in line]
    labels = {int(number): name.strip() for number, name in lines}
    labels.pop(0, None)  # "0: empty" stands for no label
    if list(labels) != list(range(1, len(labels) + 1)):
        raise ValueError(
            f'{path}: expected lines "1: name", "2: name", ..., got {list(labels)[:5]}'
        )
    return labels


@DATASETS.register_module()
class CocoPanopticSegDataset(BaseSegDataset):
    """Panoptic labels in the COCO layout as a semantic data set; crowds count, gaps are ignored.

    For COCO's 133 classes, and for anything in that layout, as what
    ``python -m refineclip microworld`` writes. Not one of the published benchmarks.

    Args:
        ann_file: ``annotations/panoptic_SPLIT.json`` under ``data_root``.
        data_root: Folder with ``SPLIT/`` and ``annotations/``.
        metainfo: As in mmseg; the classes are those of the json.
        **kwargs: Those of mmseg's ``BaseSegDataset``.

    Raises:
        FileNotFoundError: If json, images or labels are missing.
        ValueError: If the json is no panoptic annotation.
    """

    def __init__(
        self, ann_file: str, data_root: str, metainfo: dict | None = None, **kwargs: Any
    ) -> None:
        split = Path(ann_file).stem.removeprefix('panoptic_')
        self.panoptic = CocoPanoptic(data_root, split)
        metainfo = {'classes': self.panoptic.classes, **(metainfo or {})}
        super().__init__(ann_file=ann_file, data_root=data_root, metainfo=metainfo, **kwargs)

    def load_data_list(self) -> list[dict]:
        """List the images, with the category of each segment id."""
        return [
            dict(
                img_path=str(image.img_path),
                seg_map_path=str(image.label_path),
                label_map=None,
                reduce_zero_label=False,
                seg_fields=[],
                category_of_segment={s.id: s.category for s in image.segments},
            )
            for image in self.panoptic
        ]
