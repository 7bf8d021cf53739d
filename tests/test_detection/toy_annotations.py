"""Annotation files in the real layouts of COCO and LVIS, drawn by a seeded generator."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from refineclip.datasets.ov_splits import get_split

SIZE = (64, 48)  # width, height


def coco_categories(names: Sequence[str]) -> list[dict[str, Any]]:
    """Categories whose ids have holes, as COCO's."""
    return [dict(id=3 * i + 1, name=name, supercategory='x') for i, name in enumerate(names)]


def lvis_categories() -> list[dict[str, Any]]:
    """The 1203 categories of LVIS; frequent and common alternate, which no test depends on."""
    split = get_split('ov-lvis')
    rare = set(split.novel)
    return [
        dict(id=i + 1, name=name, frequency='r' if name in rare else 'fc'[i % 2])
        for i, name in enumerate(split.classes)
    ]


def boxes(rng: np.random.Generator, number: int) -> np.ndarray:
    """Boxes (number, 4), xywh, that lie in the image."""
    corner = rng.integers(0, (SIZE[0] - 20, SIZE[1] - 20), (number, 2))
    return np.concatenate([corner, rng.integers(6, 20, (number, 2))], axis=1)


def annotation(index: int, image: int, category: int, box: np.ndarray) -> dict[str, Any]:
    x, y, w, h = (int(value) for value in box)
    return dict(
        id=index,
        image_id=image,
        category_id=category,
        bbox=[x, y, w, h],
        area=w * h,
        iscrowd=0,
        segmentation=[[x, y, x + w, y, x + w, y + h, x, y + h]],
    )


def annotations(
    categories: Sequence[dict[str, Any]],
    num_images: int,
    per_image: int,
    seed: int = 0,
    lvis: bool = False,
) -> dict[str, Any]:
    """Content of an annotation file; the categories take turns, so that all are there."""
    rng = np.random.default_rng(seed)
    images, rows = [], []
    for image in range(1, num_images + 1):
        name = f'{image:012d}.jpg'
        entry: dict[str, Any] = dict(id=image, file_name=name, width=SIZE[0], height=SIZE[1])
        own = [categories[(len(rows) + i) % len(categories)]['id'] for i in range(per_image)]
        if lvis:
            entry.pop('file_name')
            entry['coco_url'] = f'http://images.cocodataset.org/val2017/{name}'
            searched = [category['id'] for category in categories]
            entry['neg_category_ids'] = [i for i in searched[: len(searched) // 2] if i not in own]
            entry['not_exhaustive_category_ids'] = own[:1]
        images.append(entry)
        for category, box in zip(own, boxes(rng, per_image), strict=True):
            rows.append(annotation(len(rows) + 1, image, category, box))
    return dict(images=images, annotations=rows, categories=list(categories))


def write_json(path: Path, content: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))
    return path


def write_images(folder: Path, content: dict[str, Any]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for entry in content['images']:
        name = entry.get('file_name') or entry['coco_url'].rsplit('/', 1)[1]
        Image.new('RGB', SIZE).save(folder / name)
