"""Proposals files: class-agnostic boxes per image, read from JSON."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refineclip.datasets.coco_json import (
    check_images,
    check_matches,
    check_records,
    file_name_of,
    read_json,
    refuse_twins,
)

Proposals = dict[str, NDArray[np.float32]]


def load_proposals(path: str | Path) -> Proposals:
    """Read a proposals file into {image key: (P, 5) float32 [x1, y1, x2, y2, label], in pixels}.

    Three layouts are told apart by their content:

    - ours: ``{file_name: [[x1, y1, x2, y2, score?], ...]}``, absolute pixels of the image after its
      EXIF rotation; file_name may carry folders (``a/b.jpg``) when names repeat;
    - COCO results: a list of ``{"image_id": int or str, "bbox": [x, y, w, h], ...}``;
    - COCO annotations: ``{"images": [...], "annotations": [...], "categories": [...]}``.

    The label is the position of a box's ``category_id`` in ``categories``, -1 where the file has
    no ``categories``. Scores are ignored. COCO results without an images table are matched by
    number: image_id 139 belongs to any file whose stem reads 139 (``000000000139.jpg``).

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The content fits none of the layouts, or is no JSON.
    """
    path = Path(path)
    try:
        content = read_json(path, 'proposals')
        if isinstance(content, list):
            check_records(path, 'the results', content, ('image_id', 'bbox'))
            return _from_coco(content, {}, [])
        if 'annotations' in content and 'images' in content:
            return _from_annotations(path, **content)
        return {name: _as_rows([[*box[:4], -1] for box in rows]) for name, rows in content.items()}
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise ValueError(
            f'Expected {path} to map file names to lists of [x1, y1, x2, y2], or to follow the '
            f'COCO results or annotations layout, got {type(error).__name__}: {error}.'
        ) from error


def proposals_of(proposals: Mapping[str, NDArray[np.float32]], img_path: str) -> Any:
    """Return the (P, 5) rows of one image, or None when the file has none for it.

    The longest tail of the path that is a key wins: ``x/a/b.jpg``, ``a/b.jpg``, ``b.jpg``, then
    the number that the stem reads.
    """
    parts = PurePath(img_path).parts
    for start in range(len(parts)):
        boxes = proposals.get('/'.join(parts[start:]))
        if boxes is not None:
            return boxes
    stem = PurePath(img_path).stem
    return proposals.get(str(int(stem))) if stem.isdecimal() else None


def _name(image: dict[str, Any]) -> str:
    name = file_name_of(image, parts=2)
    if name is None:
        raise KeyError('file_name')
    return name


def _from_annotations(
    path: Path, images: list[dict], annotations: list[dict], categories: Any = (), **others: Any
) -> Proposals:
    check_images(path, images)
    check_records(path, 'annotations', annotations, ('image_id', 'bbox'))
    check_matches(path, images, annotations)
    check_records(path, 'categories', categories, ('id',))
    refuse_twins(path, 'category', categories, 'id')
    names = {image['id']: _name(image) for image in images}
    of_images = [record for record in annotations if record['image_id'] in names]
    return _from_coco(of_images, names, [category['id'] for category in categories])


def _from_coco(
    records: list[dict[str, Any]], names: Mapping[Any, str], categories: list[int]
) -> Proposals:
    label_of = {category: label for label, category in enumerate(categories)}
    grouped: dict[str, list[list[float]]] = {}
    for record in records:
        x, y, w, h = record['bbox']
        image = record['image_id']
        label = label_of[record['category_id']] if label_of else -1
        grouped.setdefault(names.get(image, str(image)), []).append([x, y, x + w, y + h, label])
    return {name: _as_rows(rows) for name, rows in grouped.items()}


def _as_rows(rows: list[list[float]]) -> NDArray[np.float32]:
    array = np.array(rows, np.float32).reshape(len(rows), 5)
    if not np.isfinite(array).all():
        raise ValueError('boxes must be finite')
    return array
