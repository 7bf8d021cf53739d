"""Proposals files: class-agnostic boxes per image, read from JSON."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path, PurePath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refineclip.datasets.coco_json import (
    check_images,
    check_matches,
    check_records,
    file_name_of,
    refuse_twins,
)
from refineclip.datasets.json_stream import JsonStream
from refineclip.datasets.packed import PackedRows, RowBuilder

_TABLES = ('images', 'categories')


def load_proposals(path: str | Path) -> PackedRows:
    """Read a proposals file into {image key: (P, 5) float32 [x1, y1, x2, y2, label], in pixels}.

    Three layouts are told apart by their content:

    - ours: ``{file_name: [[x1, y1, x2, y2, score?], ...]}``, absolute pixels of the image after its
      EXIF rotation; file_name may carry folders (``a/b.jpg``) when names repeat;
    - COCO results: a list of ``{"image_id": int or str, "bbox": [x, y, w, h], ...}``;
    - COCO annotations: ``{"images": [...], "annotations": [...], "categories": [...]}``.

    The label is the position of a box's ``category_id`` in ``categories``, -1 where the file has
    no ``categories``. Scores are ignored. COCO results without an images table are matched by
    number: image_id 139 belongs to any file whose stem reads 139 (``000000000139.jpg``).

    The file is read piece by piece, and only boxes are kept: 20 bytes each.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The content fits none of the layouts, or is no JSON.
    """
    path = Path(path)
    stream = JsonStream(path, 'proposals')
    try:
        return _read(path, stream)
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


def _read(path: Path, stream: JsonStream) -> PackedRows:
    own, coco = RowBuilder(4), _CocoBoxes(path)
    tables: dict[str, list[dict[str, Any]]] = {key: [] for key in _TABLES}
    seen: dict[str | None, bool] = {}  # key: whether it holds no boxes
    for key, value, start in stream:
        if start <= 0 and key in seen:
            raise ValueError(f'expected each key once, got {key!r} twice')
        seen[key] = False
        if start >= 0 and key in tables:
            tables[key].extend(value)
        elif start >= 0 and key in (None, 'annotations'):
            coco.add('annotations' if key else 'the results', value, start)
        elif start >= 0 or not isinstance(value, list):
            seen[key] = True
        elif key in (None, 'annotations', *tables):
            check_records(path, str(key), value, ('id',))  # of an empty list, or none of records
        else:
            own.add(key, [box[:4] for box in value])
    if {'images', 'annotations'} <= seen.keys():
        return _of_annotations(path, coco, **tables)
    strange = [key for key in seen if seen[key] or key in ('annotations', *tables)]
    if strange:
        raise TypeError(
            f'expected a list of boxes for each image, got another value of {strange[0]!r}'
        )
    if None in seen:
        return coco.packed()
    rows = np.pad(own.rows(), ((0, 0), (0, 1)), constant_values=-1)  # no labels
    return _packed(list(own.index), own.owner(), rows)


class _CocoBoxes:
    """Boxes of COCO's records, by image, with their categories."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.boxes = RowBuilder(5)  # the last: place of the category among those met
        self.categories: dict[Any, int] = {}

    def add(self, where: str, records: list[dict[str, Any]], start: int) -> None:
        """Add records, the first of which is number ``start``."""
        check_records(self.path, where, records, ('image_id', 'bbox'), start=start)
        for image, group in groupby(records, lambda record: record['image_id']):
            rows = []
            for record in group:
                x, y, w, h = record['bbox']
                category = record.get('category_id')
                place = self.categories.setdefault(category, len(self.categories))
                rows.append((x, y, x + w, y + h, place))
            self.boxes.add(image, rows)

    def packed(
        self, names: Mapping[Any, str] | None = None, categories: Sequence[Any] = ()
    ) -> PackedRows:
        """The boxes by image.

        Args:
            names: Name of each image; boxes of others are left out. None: the text of its id.
            categories: Known categories; the place of a box's among them is its label.
        """
        images = list(self.boxes.index)
        kept = np.array([names is None or image in names for image in images], bool)
        place = np.cumsum(kept) - 1
        owner = self.boxes.owner()
        rows = self.boxes.rows()[kept[owner]]
        owner = place[owner[kept[owner]]]
        label_of = {category: label for label, category in enumerate(categories)}
        met = list(self.categories)
        for number in np.unique(rows[:, 4]) if categories else ():
            if met[int(number)] not in label_of:
                raise KeyError(f'category_id {met[int(number)]!r}, which is not in categories')
        labels = np.array([label_of.get(category, -1) for category in met], np.float32)
        rows[:, 4] = labels[rows[:, 4].astype(np.int64)] if len(rows) else 0
        known = [image for image, keep in zip(images, kept, strict=True) if keep]
        return _packed([str(i) if names is None else names[i] for i in known], owner, rows)


def _of_annotations(
    path: Path,
    coco: _CocoBoxes,
    images: list[dict[str, Any]],
    categories: list[dict[str, Any]],
) -> PackedRows:
    check_images(path, images)
    check_matches(path, images, [dict(image_id=image) for image in coco.boxes.index])
    check_records(path, 'categories', categories, ('id',))
    refuse_twins(path, 'category', categories, 'id')
    names = {image['id']: _name(image) for image in images}
    return coco.packed(names, [category['id'] for category in categories])


def _packed(names: list[str], owner: NDArray[np.int64], rows: NDArray[np.float32]) -> PackedRows:
    if not np.isfinite(rows).all():
        raise ValueError('boxes must be finite')
    return PackedRows(names, owner, rows)


def _name(image: dict[str, Any]) -> str:
    name = file_name_of(image, parts=2)
    if name is None:
        raise KeyError('file_name')
    return name
