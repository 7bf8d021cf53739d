"""Writing a split of the microworld to disk in COCO's published layout."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from .scene import Microworld, Scene
from .vocabulary import KINDS, NAMES, NOVEL_NAMES, SCENES

# Goes up whenever the same seed draws other images; the shipped CLIP knows those of its own alone.
VERSION = '2'
INFO = {
    'description': 'refineclip microworld: drawn images, no photographs',
    'license': 'CC0',
    'version': VERSION,
}
STUFF_OFFSET = len(KINDS) + 1
# Classes of the semantic maps: the named kinds, then the backgrounds; unnamed kinds are ignored.
SEMANTIC_CLASSES = (*NAMES, *SCENES)
IGNORED = 255
CATEGORIES: list[dict[str, Any]] = [
    {'id': index + 1, 'name': kind.name, 'supercategory': kind.name, 'isthing': 1}
    for index, kind in enumerate(KINDS)
] + [
    {'id': STUFF_OFFSET + index, 'name': name, 'supercategory': name, 'isthing': 0}
    for index, name in enumerate(SCENES)
]


def write_split(root: str | Path, split: str, num_images: int, seed: int = 0) -> Path:
    """Draw the dense views of a split and write images and their annotations.

    Files: ``<split>/*.png``, ``annotations/panoptic_<split>/*.png`` and
    ``annotations/{panoptic,instances,captions}_<split>.json``; for open-vocabulary training
    ``annotations/instances_<split>_base.json``, boxes of base kinds only, and semantic maps of
    ``SEMANTIC_CLASSES`` in ``annotations/semantic_<split>/*.png``, and without the novel ones in
    ``annotations/semantic_<split>_base/*.png``. The same arguments write the same bytes.

    Args:
        root: Folder of the data set.
        split: Name of the split, which also decides the images.
        num_images: How many.
        seed: Seed of the world's images.

    Returns:
        The folder ``root``.

    Raises:
        ValueError: If ``num_images`` is not positive.
    """
    if num_images < 1:
        raise ValueError(f'num_images: expected 1 or more, got {num_images}')
    root, world = Path(root), Microworld(split, 'dense', seed)
    labels = root / 'annotations' / f'panoptic_{split}'
    semantic = {
        root / 'annotations' / f'semantic_{split}': _semantic_values(()),
        root / 'annotations' / f'semantic_{split}_base': _semantic_values(NOVEL_NAMES),
    }
    for folder in (root / split, labels, *semantic):
        folder.mkdir(parents=True, exist_ok=True)
    images: list[dict[str, Any]] = []
    panoptic: list[dict[str, Any]] = []
    instances: list[dict[str, Any]] = []
    captions: list[dict[str, Any]] = []
    for index in range(num_images):
        scene, name = world[index], f'{index:012d}.png'
        Image.fromarray(scene.image).save(root / split / name, compress_level=1)
        images.append(dict(id=index, file_name=name, height=world.size, width=world.size))
        ids, segments = _segments(scene)
        Image.fromarray(np.stack([ids, 0 * ids, 0 * ids], axis=-1)).save(labels / name)
        kinds = np.array([STUFF_OFFSET + scene.scene, *(kind + 1 for kind in scene.kinds)])
        for folder, values in semantic.items():
            Image.fromarray(values[kinds[scene.instances]]).save(folder / name)
        panoptic.append(dict(image_id=index, file_name=name, segments_info=segments))
        captions.append(dict(id=index, image_id=index, caption=scene.caption))
        for segment in segments:
            if segment['category_id'] < STUFF_OFFSET:
                mask = ids == segment['id']
                instances.append(
                    dict(
                        segment,
                        id=len(instances) + 1,
                        image_id=index,
                        segmentation=_run_lengths(mask),
                    )
                )
    things = [category for category in CATEGORIES if category['isthing']]
    novel = {c['id'] for c in things if c['name'] not in NAMES or c['name'] in NOVEL_NAMES}
    base = [one for one in instances if one['category_id'] not in novel]
    contents = {
        f'panoptic_{split}': dict(annotations=panoptic, categories=CATEGORIES),
        f'instances_{split}': dict(annotations=instances, categories=things),
        f'instances_{split}_base': dict(annotations=base, categories=things),
        f'captions_{split}': dict(annotations=captions),
    }
    for name, content in contents.items():
        path = root / 'annotations' / f'{name}.json'
        path.write_text(json.dumps(dict(info=INFO, images=images, **content)))
    return root


def require_current(root: str | Path, split: str) -> None:
    """Refuse images of an earlier world, which the shipped CLIP has never seen.

    Args:
        root: Folder of the data set.
        split: Name of the split.

    Raises:
        FileNotFoundError: If the split was not drawn there.
        ValueError: If it was drawn by another version of the world.
    """
    path = Path(root) / 'annotations' / f'panoptic_{split}.json'
    command = f'draw it: python -m refineclip microworld {root}'
    if not path.is_file():
        raise FileNotFoundError(
            f'expected the split {split} of the microworld, got no {path}; {command}'
        )
    found = json.loads(path.read_text())['info'].get('version', '1')
    if found != VERSION:
        raise ValueError(
            f'expected images of version {VERSION} of the microworld in {root}, got version '
            f'{found}; {command}'
        )


def _semantic_values(left_out: Sequence[str]) -> NDArray[np.uint8]:
    """Value of each category id in a semantic map."""
    values = np.full(STUFF_OFFSET + len(SCENES), IGNORED, dtype=np.uint8)
    for category in CATEGORIES:
        if category['name'] in SEMANTIC_CLASSES and category['name'] not in left_out:
            values[category['id']] = SEMANTIC_CLASSES.index(category['name'])
    return values


def _segments(scene: Scene) -> tuple[NDArray[np.uint8], list[dict[str, Any]]]:
    """Panoptic ids (S, S), none of them 0, and the segments that can be seen."""
    ids = scene.instances + np.uint8(1)
    categories = [STUFF_OFFSET + scene.scene, *(kind + 1 for kind in scene.kinds)]
    segments = []
    for position, category in enumerate(categories):
        rows, columns = np.nonzero(ids == position + 1)
        if len(rows) == 0:
            continue  # covered by later objects
        left, top = int(columns.min()), int(rows.min())
        box = [left, top, int(columns.max()) - left + 1, int(rows.max()) - top + 1]
        segments.append(
            dict(id=position + 1, category_id=category, bbox=box, area=len(rows), iscrowd=0)
        )
    return ids, segments


def _run_lengths(mask: NDArray[np.bool_]) -> dict[str, list[int]]:
    """COCO's uncompressed run lengths: column by column, beginning with the zeros."""
    flat = mask.ravel(order='F')
    changes = np.flatnonzero(np.diff(flat)) + 1
    runs = np.diff([0, *changes, flat.size]).tolist()
    return dict(size=list(mask.shape), counts=[0, *runs] if flat[0] else runs)
