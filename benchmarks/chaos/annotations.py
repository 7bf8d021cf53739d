"""Hostile annotation files, read by the data sets."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from refineclip.datasets.coco_captions import CocoCaptions
from refineclip.datasets.coco_panoptic import CocoPanoptic
from refineclip.datasets.microworld.coco_layout import write_split
from refineclip.datasets.ov_splits import get_split
from refineclip.datasets.proposals import load_proposals

from .spoiling import Generator, spoil_json
from .verdicts import Case

_ANNOTATIONS = 'annotations'


@cache
def drawn(folder: Path) -> Path:
    """Three drawn images in the COCO layout."""
    write_split(folder / 'drawn', 'val', 3)
    return folder / 'drawn'


@cache
def _content(path: Path) -> Any:
    return json.loads(path.read_text())


def panoptic_case(rng: Generator, folder: Path, index: int) -> Case:
    """A panoptic json with one place spoilt."""
    root, split = drawn(folder), f'case{index}'
    way, content = spoil_json(_content(root / _ANNOTATIONS / 'panoptic_val.json'), rng)
    (root / split).symlink_to(root / 'val')
    (root / _ANNOTATIONS / f'panoptic_{split}.json').write_bytes(content)
    (root / _ANNOTATIONS / f'panoptic_{split}').symlink_to(root / _ANNOTATIONS / 'panoptic_val')

    def read() -> tuple[CocoPanoptic, list[Any]]:
        data = CocoPanoptic(root, split)
        return data, [(image.read_ids(), *image.labelled_boxes()) for image in data]

    def wrong(found: tuple[CocoPanoptic, list[Any]]) -> str:
        data, items = found
        if not all(isinstance(name, str) for name in data.classes):
            return 'a class name that is no text'
        for ids, boxes, labels in items:
            if not np.isfinite(boxes).all() or (boxes[:, 2:] < boxes[:, :2]).any():
                return f'boxes {boxes.tolist()}'
            if len(labels) and (labels.max() >= len(data.classes) or not ids.any()):
                return 'labels without class'
        return '' if way not in ('cut', 'nothing') else 'a part of a json'

    return Case(way, read, wrong)


def captions_case(rng: Generator, folder: Path, index: int) -> Case:
    """A captions json with one place spoilt."""
    root = drawn(folder)
    images = _content(root / _ANNOTATIONS / 'panoptic_val.json')['images']
    rows = [
        dict(id=number, image_id=image['id'], caption=f'a drawing, the {number}th')
        for number, image in enumerate(images * 2)
    ]
    way, content = spoil_json(dict(images=images, annotations=rows), rng)
    path = folder / f'captions_{index}.json'
    path.write_bytes(content)

    def wrong(found: CocoCaptions) -> str:
        if not all(isinstance(text, str) and text.strip() for text in found.captions):
            return f'captions {found.captions}'
        known = len(found.paths) > found.owner.max() and all(map(Path.is_file, found.paths))
        return '' if known and len(found.owner) == len(found.captions) else 'owners'

    return Case(way, lambda: CocoCaptions(path, root / 'val'), wrong)


def proposals_case(rng: Generator, folder: Path, index: int) -> Case:
    """A proposals json of each layout with one place spoilt."""
    root = drawn(folder)
    layouts = (
        {'a.jpg': [[1, 2, 30, 40], [0, 0, 9, 9, 0.5]], 'b.jpg': []},
        [dict(image_id=3, bbox=[1, 2, 3, 4], score=0.5), dict(image_id='x', bbox=[0, 0, 5, 5])],
        _content(root / _ANNOTATIONS / 'instances_val.json'),
    )
    way, content = spoil_json(layouts[index % 3], rng)
    path = folder / f'proposals_{index}.json'
    path.write_bytes(content)

    def wrong(found: dict[str, Any]) -> str:
        fine = all(
            isinstance(name, str) and np.isfinite(rows).all() and rows.shape[1:] == (5,)
            for name, rows in found.items()
        )
        return '' if fine else f'{found}'

    return Case(way, lambda: load_proposals(path), wrong)


def instances_case(rng: Generator, folder: Path, index: int) -> Case:
    """An instances json with one place spoilt, read by the data set of F-ViT."""
    root = drawn(folder)
    way, content = spoil_json(_content(root / _ANNOTATIONS / 'instances_val.json'), rng)
    path = root / _ANNOTATIONS / f'instances_{index}.json'
    path.write_bytes(content)

    def read() -> Any:
        from refineclip.detection.ov_datasets import OVCocoDataset

        return OVCocoDataset(
            data_root=str(root),
            ann_file=f'annotations/{path.name}',
            data_prefix=dict(img='val/'),
            split='microworld',
            pipeline=[],
        )

    return Case(way, read, _check_boxes(len(get_split('microworld').classes)))


@cache
def _lvis(folder: Path) -> dict[str, Any]:
    content = _content(drawn(folder) / _ANNOTATIONS / 'instances_val.json')
    categories = [
        dict(id=number, name=name, frequency='rcf'[number % 3])
        for number, name in enumerate(get_split('ov-lvis').classes, 1)
    ]
    lists = ('neg_category_ids', 'not_exhaustive_category_ids')
    images = [
        dict(
            id=image['id'],
            width=image['width'],
            height=image['height'],
            coco_url=f'http://images.cocodataset.org/val/{image["file_name"]}',
            **{key: [] for key in lists},
        )
        for image in content['images']
    ]
    return dict(images=images, annotations=content['annotations'], categories=categories)


def lvis_case(rng: Generator, folder: Path, index: int) -> Case:
    """An LVIS json with one place spoilt."""
    root = drawn(folder)
    way, content = spoil_json(_lvis(folder), rng)
    path = root / _ANNOTATIONS / f'lvis_{index}.json'
    path.write_bytes(content)

    def read() -> Any:
        from refineclip.detection.ov_datasets import OVLVISDataset

        return OVLVISDataset(
            data_root=str(root),
            ann_file=f'annotations/{path.name}',
            data_prefix=dict(img=''),
            pipeline=[],
        )

    return Case(way, read, _check_boxes(len(get_split('ov-lvis').classes)))


def _check_boxes(num_classes: int) -> Callable[[Any], str]:
    def wrong(data: Any) -> str:
        for image in (data.get_data_info(index) for index in range(len(data))):
            boxes = np.array([one['bbox'] for one in image['instances']], float).reshape(-1, 4)
            labels = [one['bbox_label'] for one in image['instances']]
            if not np.isfinite(boxes).all() or (boxes[:, 2:] <= boxes[:, :2]).any():
                return f'boxes {boxes.tolist()}'
            if any(label not in range(num_classes) for label in labels):
                return f'labels {labels}'
        return ''

    return wrong
