"""Boxes of COCO-like files: what may be absent is filled, what trains nothing is counted."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any

from mmengine.logging import print_log
from pycocotools import mask as masks

from refineclip.datasets.coco_json import (
    check_categories,
    check_images,
    check_matches,
    check_records,
    file_name_of,
    read_coco_json,
    shown,
)

Record = dict[str, Any]


def read_annotations(path: str) -> dict[str, list[Record]]:
    """Read an instances file; ``area``, ``iscrowd`` and ``id`` of a box may be absent.

    So may all ``annotations``, as in the files of test images.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is of another kind, lacks what a box needs, or has a category twice.
    """
    content = read_coco_json(path, 'boxes (COCO instances)', ('images', 'categories'))
    if content.get('annotations') is None:
        content['annotations'] = []
    if not isinstance(content['annotations'], list):
        raise ValueError(
            f"{path}: expected a list of 'annotations', got {shown(content['annotations'])}"
        )
    check_categories(path, content['categories'])
    check_records(path, 'images', content['images'], ('id', 'width', 'height'))
    check_images(path, content['images'])
    for image in content['images']:
        name = file_name_of(image)
        if name is None:
            raise ValueError(
                f"{path}: expected 'file_name' in each of images, got none in {shown(image)}"
            )
        image['file_name'] = name
    complete_annotations(path, content)
    check_matches(path, content['images'], content['annotations'])
    return content


def complete_annotations(path: str, content: dict[str, list[Record]]) -> None:
    """Check the boxes of a file, and fill in place what a box may lack.

    ``area`` absent or 0 becomes that of the mask, or of the box where there is none; ``iscrowd``
    becomes 0; ``id`` a running number, if no box has one.

    Raises:
        ValueError: Naming file, key and the first record that lacks more, or two boxes of one id.
    """
    rows = content.get('annotations', [])
    check_records(
        path,
        'annotations',
        rows,
        ('image_id', 'category_id', 'bbox'),
        'take instances_*.json, not captions_*.json or panoptic_*.json',
    )
    images = {image['id']: image for image in content['images']}
    numbered = any('id' in row for row in rows)
    for index, row in enumerate(rows):
        row['iscrowd'] = row.get('iscrowd') or 0
        if not numbered:
            row['id'] = index + 1
        if not row.get('area') or row['area'] < 0:
            row['area'] = _area(row, images.get(row['image_id']))
    check_records(path, 'annotations', rows, ('id',))
    twice = [one for one, count in Counter(row['id'] for row in rows).items() if count > 1]
    if twice:
        raise ValueError(f'{path}: expected a different id for each box, got {twice[0]} twice')


def _area(row: Record, image: Record | None) -> float:
    """Pixels of the mask of an annotation, else of its box."""
    _, _, width, height = row['bbox']
    outline = row.get('segmentation')
    polygons = isinstance(outline, list) and [part for part in outline if len(part) >= 6]
    if image is not None and polygons:
        parts = masks.frPyObjects(polygons, image['height'], image['width'])
        area = float(masks.area(masks.merge(parts)))
        if area > 0:
            return area
    return float(max(width, 0) * max(height, 0))


def why_unused(row: Record, image: Record, cat_ids: Collection[int]) -> str | None:
    """Say why mmdet's ``CocoDataset`` does not train on a box, None if it does."""
    x, y, width, height = row['bbox']
    if row.get('ignore'):
        return "marked 'ignore'"
    if width < 1 or height < 1:
        return 'smaller than a pixel'
    if min(x + width, image['width']) <= max(x, 0) or min(y + height, image['height']) <= max(y, 0):
        return 'outside of the image'
    if row['category_id'] not in cat_ids:
        return 'of other categories'
    return 'crowds' if row.get('iscrowd') else None


def report_training_boxes(
    path: str, lost: Counter[str], num_listed: int, kept: Sequence[Record]
) -> None:
    """Say what a data set trains on.

    Args:
        path: The annotation file.
        lost: Reason -> number of boxes that are not trained on.
        num_listed: Images that the file lists.
        kept: Images that are trained on, as mmdet holds them.

    Raises:
        ValueError: If there is no box to train on.
    """
    used = sum(not one['ignore_flag'] for image in kept for one in image['instances'])
    reasons = ', '.join(f'{count} {reason}' for reason, count in lost.most_common())
    what = (
        f'{path}: {used} boxes in {len(kept)} of {num_listed} images to train on; '
        f'{lost.total()} boxes left out' + (f' ({reasons})' if reasons else '')
    )
    if not used:
        raise ValueError(
            f'expected boxes to train on, got none in {what}; check the classes, the boxes (x, y, '
            'width, height in pixels) and filter_cfg'
        )
    if lost or len(kept) < num_listed:
        left = num_listed - len(kept)
        print_log(
            f'{what}, {left} images left out (without a box, or smaller than filter_cfg.min_size)',
            logger='current',
            level=logging.WARNING,
        )
