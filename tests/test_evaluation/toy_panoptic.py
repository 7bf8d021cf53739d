"""A toy data set in COCO's panoptic layout, in which every category has one colour."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from refineclip.distill.region_preprocessor import RegionPreprocessor

PATCH, SIZE = 8, 64
MEAN, STD = [120.0] * 3, [60.0] * 3
# Sorted by category id: the order of the classes.
CATEGORIES = [
    {'id': 1, 'name': 'person', 'supercategory': 'person', 'isthing': 1},
    {'id': 3, 'name': 'car', 'supercategory': 'vehicle', 'isthing': 1},
    {'id': 90, 'name': 'grass-merged', 'supercategory': 'plant', 'isthing': 0},
    {'id': 95, 'name': 'sky-other-merged', 'supercategory': 'sky', 'isthing': 0},
]
COLOURS = {1: (40, 60, 220), 3: (220, 40, 40), 90: (60, 200, 60), 95: (230, 230, 120)}
# (height, width): landscape, portrait, square.
SHAPES = [(48, 64), (64, 48), (64, 64), (48, 64)]


def write_coco(root: Path, num_images: int = 4, split: str = 'val2017') -> Path:
    """Write images of a sky above grass, with a person and a car, aligned to 8 px."""
    folder = root / 'annotations' / f'panoptic_{split}'
    folder.mkdir(parents=True)
    (root / split).mkdir()
    images, annotations = [], []
    for index in range(num_images):
        height, width = SHAPES[index % len(SHAPES)]
        ids = np.zeros((height, width), dtype=np.int32)
        parts = [
            (95, (0, 0, width, height // 2)),
            (90, (0, height // 2, width, height)),
            (1, (8, 8, 24, height - 8)),
            (3, (32, 16 + 8 * (index % 2), width - 8, 40)),
        ]
        infos: list[dict[str, Any]] = []
        for number, (category, (x1, y1, x2, y2)) in enumerate(parts):
            segment = 300 * (number + 1)
            ids[y1:y2, x1:x2] = segment
            box = [x1, y1, x2 - x1, y2 - y1]
            infos.append({'id': segment, 'category_id': category, 'iscrowd': 0, 'bbox': box})
        pixels = np.zeros((height, width, 3), dtype=np.uint8)
        for info in infos:
            mask = ids == info['id']
            info['area'] = int(mask.sum())
            pixels[mask] = COLOURS[info['category_id']]
        name = f'{index:03d}'
        Image.fromarray(pixels).save(root / split / f'{name}.png')
        rgb = np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=-1).astype(np.uint8)
        Image.fromarray(rgb).save(folder / f'{name}.png')
        images.append({'id': index, 'file_name': f'{name}.png', 'width': width, 'height': height})
        annotations.append({'image_id': index, 'file_name': f'{name}.png', 'segments_info': infos})
    content = {'images': images, 'annotations': annotations, 'categories': CATEGORIES[::-1]}
    (root / 'annotations' / f'panoptic_{split}.json').write_text(json.dumps(content))
    return root


def edit_json(root: Path, split: str = 'val2017') -> Any:
    """Return the annotation content and a function that writes it back."""
    path = root / 'annotations' / f'panoptic_{split}.json'
    content = json.loads(path.read_text())
    return content, lambda: path.write_text(json.dumps(content))


def preprocessor(resize: str = 'letterbox', **kwargs: Any) -> RegionPreprocessor:
    """The canvas of 64 px."""
    return RegionPreprocessor(MEAN, STD, SIZE, SIZE, resize, 'squash', **kwargs)


def colour_texts() -> Tensor:
    """What ColourEncoder says of a patch of each category's colour, (4, 4)."""
    colours = torch.tensor([COLOURS[c['id']] for c in CATEGORIES]).float()
    normalised = (colours - torch.tensor(MEAN)) / torch.tensor(STD)
    return torch.cat([normalised, torch.ones(len(colours), 1)], dim=1)
