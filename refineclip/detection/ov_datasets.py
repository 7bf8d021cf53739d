"""mmdet's data sets, told their split by name, that refuse files which would train nothing.

mmdet drops a class that the annotation file lacks without a word, numbers the others anew, and
notices a missing image hours later in a worker.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mmdet.datasets import CocoDataset, LVISV1Dataset
from mmdet.datasets.api_wrappers import COCO
from mmengine.fileio import load
from mmengine.registry import DATASETS

from refineclip.datasets.ov_splits import get_split

from .coco_boxes import (
    complete_annotations,
    read_annotations,
    report_training_boxes,
    why_unused,
)


class NamedCategoriesCOCO(COCO):
    """mmdet's COCO API, strict about the category names that are asked for."""

    def __init__(self, annotation_file: str | None = None) -> None:
        super().__init__(None)
        self.annotation_file = annotation_file
        if annotation_file is not None:
            self.dataset = read_annotations(annotation_file)
            self.createIndex()
            self.img_ann_map, self.cat_img_map = self.imgToAnns, self.catToImgs

    def get_cat_ids(
        self,
        cat_names: Sequence[str] = (),
        sup_names: Sequence[str] = (),
        cat_ids: Sequence[int] = (),
    ) -> list[int]:
        """Category ids of the names, which the file must have all of, in its own order.

        Raises:
            ValueError: If the file lacks a name or has them in another order.
        """
        if cat_names:
            own = [category['name'] for category in self.dataset.get('categories', [])]
            check_categories(str(self.annotation_file), own, cat_names)
        return super().get_cat_ids(cat_names, sup_names, cat_ids)


class CountedBoxes(CocoDataset):
    """Mixin: count the boxes that are trained on, and refuse a training set without any."""

    def parse_data_info(self, raw_data_info: dict) -> dict:
        """The parent's, and why boxes of the image are not trained on."""
        image = raw_data_info['raw_img_info']
        for row in raw_data_info['raw_ann_info']:
            if reason := why_unused(row, image, self.cat_ids):
                self.lost[reason] += 1
        return super().parse_data_info(raw_data_info)

    def load_data_list(self) -> list[dict]:
        """The parent's, counted."""
        self.lost: Counter[str] = Counter()
        return super().load_data_list()

    def filter_data(self) -> list[dict]:
        """The parent's; in training an error if no box is left, a warning if some are lost.

        Raises:
            ValueError: If there is no box to train on.
        """
        kept = super().filter_data()
        if not self.test_mode:
            report_training_boxes(self.ann_file, self.lost, len(self.data_list), kept)
        return kept


@DATASETS.register_module()
class OVCocoDataset(CountedBoxes):
    """:class:`mmdet.datasets.CocoDataset` with the classes of a split.

    ``area``, ``iscrowd`` and ``id`` of a box may be absent from the file, see
    :func:`~refineclip.detection.coco_boxes.complete_annotations`. What is not trained on is counted
    in a warning.

    Args:
        split: See :func:`refineclip.datasets.ov_splits.get_split`; gives ``metainfo`` its
            ``classes``, ``base_classes`` and ``novel_classes``.
        metainfo: More, or other, metainfo.
        kwargs: Arguments of ``CocoDataset``.

    Raises:
        FileNotFoundError: If the annotation file, or an image that it lists, is not on the disk.
        ValueError: If the file lacks classes of the split, has them in another order, is none of
            boxes, or has no box to train on.
    """

    COCOAPI = NamedCategoriesCOCO

    def __init__(
        self, *args: Any, split: str = 'ov-coco', metainfo: dict | None = None, **kwargs: Any
    ) -> None:
        metainfo = {**get_split(split).metainfo, **(metainfo or {})}
        super().__init__(*args, metainfo=metainfo, **kwargs)

    def load_data_list(self) -> list[dict]:
        """Load the annotations, then look for the images."""
        check_annotation_file(self.ann_file, 'tools/prepare/ov_coco.py', self.backend_args)
        data_list = super().load_data_list()
        check_images(self.ann_file, [data['img_path'] for data in data_list], self.backend_args)
        return data_list


@DATASETS.register_module()
class OVLVISDataset(CountedBoxes, LVISV1Dataset):
    """:class:`mmdet.datasets.LVISV1Dataset` with base (frequent, common) and novel (rare) classes.

    Args:
        metainfo: More, or other, metainfo.
        kwargs: Arguments of ``LVISV1Dataset``.

    Raises:
        FileNotFoundError: If the annotation file, or an image that it lists, is not on the disk.
        ValueError: If the file does not have the 1203 categories of LVIS v1.
    """

    def __init__(self, *args: Any, metainfo: dict | None = None, **kwargs: Any) -> None:
        metainfo = {**get_split('ov-lvis').metainfo, **(metainfo or {})}
        super().__init__(*args, metainfo=metainfo, **kwargs)

    def parse_data_info(self, raw_data_info: dict) -> dict:
        """The parent's, with areas and crowd marks where the file has none."""
        content = dict(
            images=[
                {'id': raw_data_info['raw_img_info']['img_id']} | raw_data_info['raw_img_info']
            ],
            annotations=raw_data_info['raw_ann_info'],
        )
        complete_annotations(self.ann_file, content)
        return super().parse_data_info(raw_data_info)

    def load_data_list(self) -> list[dict]:
        """Load the annotations, then look for the categories and the images."""
        check_annotation_file(self.ann_file, 'tools/prepare/ov_lvis.py', self.backend_args)
        try:
            data_list = super().load_data_list()
        # LVIS's own reader takes the layout for granted.
        except (ValueError, TypeError, AttributeError, LookupError) as error:
            if _is_local(self.backend_args):
                read_annotations(self.ann_file)  # names what is wrong where COCO's files have it
            found = f'where a record lacks {error}' if isinstance(error, KeyError) else str(error)
            raise ValueError(
                f'{self.ann_file}: expected an LVIS file in UTF-8, got one {found}'
            ) from error
        classes = self.metainfo['classes']
        # LVIS numbers its classes from 1 in the order of their names, and mmdet takes all of them.
        if list(self.cat_ids) != list(range(1, len(classes) + 1)):
            if _is_local(self.backend_args):
                read_annotations(self.ann_file)
            categories = load(self.ann_file, backend_args=self.backend_args)['categories']
            # Ids may be of two kinds in a file that is broken.
            categories.sort(key=lambda one: (isinstance(one['id'], str), one['id']))
            own = [category['name'] for category in categories]
            check_categories(self.ann_file, own, classes)
            raise ValueError(
                f'{self.ann_file}: expected category ids 1 to {len(classes)} as in LVIS v1, got '
                f'{list(self.cat_ids)[:3]}...'
            )
        check_images(self.ann_file, [data['img_path'] for data in data_list], self.backend_args)
        return data_list


def check_categories(ann_file: str, own: Sequence[str], classes: Sequence[str]) -> None:
    """Raise a ValueError unless all classes are among a file's categories, in the same order.

    Args:
        ann_file: The file, for the message.
        own: Its category names, in its order.
        classes: What is expected.
    """
    known = set(own)
    missing = [name for name in classes if name not in known]
    if missing:
        raise ValueError(
            f'{ann_file}: expected categories for all {len(classes)} classes, lacks '
            f'{len(missing)}: {", ".join(missing[:20])}{", ..." if len(missing) > 20 else ""}; '
            'training files keep every category, also those without boxes: make the file with '
            'tools/prepare, or choose the split (or metainfo.classes) that it has'
        )
    expected = set(classes)
    shared = [name for name in own if name in expected]
    if shared != list(classes):
        first = next(i for i, name in enumerate(classes) if name != shared[i])
        raise ValueError(
            f'{ann_file}: expected categories in the order of the classes, because labels count '
            f'in the order of the file; first difference at {first}: {classes[first]!r} expected, '
            f'got {shared[first]!r}'
        )


def check_annotation_file(ann_file: str, tool: str, backend_args: dict | None = None) -> None:
    """Raise a FileNotFoundError that names the tool which makes a missing annotation file."""
    if _is_local(backend_args) and not Path(ann_file).is_file():
        raise FileNotFoundError(
            f'expected an annotation file, got {ann_file}, which does not exist; make it with '
            f'python {tool}, or give ann_file and data_root'
        )


def check_images(ann_file: str, paths: Sequence[str], backend_args: dict | None = None) -> None:
    """Raise a FileNotFoundError if images that an annotation file lists are not on the disk.

    Reads each folder once, so that 118,000 images take no 118,000 look-ups. Remote storage
    (``backend_args``) is not looked at.
    """
    if not _is_local(backend_args):
        return
    images = [Path(path) for path in paths]
    present = {folder: _list_folder(folder) for folder in {image.parent for image in images}}
    missing = [image for image in images if image.name not in present[image.parent]]
    if missing:
        per_folder = Counter(image.parent for image in missing)
        where = ', '.join(f'{count} of {folder}' for folder, count in per_folder.items())
        raise FileNotFoundError(
            f'{ann_file}: expected its {len(paths)} images on the disk, {len(missing)} are missing '
            f'({where}), first {missing[0]}; check data_root and data_prefix, or unpack the images'
        )


def _list_folder(folder: Path) -> set[str]:
    return {entry.name for entry in folder.iterdir()} if folder.is_dir() else set()


def _is_local(backend_args: dict | None) -> bool:
    return (backend_args or {}).get('backend', 'local') in ('local', 'disk')
