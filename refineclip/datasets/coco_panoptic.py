"""Panoptic ground truth in the published COCO layout: one json, and a PNG of ids per image."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.logging import print_log
from numpy.typing import NDArray
from PIL import Image

from refineclip.datasets.coco_json import (
    check_categories,
    check_ids,
    check_images,
    check_matches,
    check_records,
    file_name_of,
    is_number,
    read_coco_json,
    refuse_twins,
    shown,
)
from refineclip.datasets.image_io import read_image_size


@dataclass(frozen=True)
class PanopticSegment:
    """One segment of one image.

    Attributes:
        id: Value of the segment in the id map; unique in its image, never 0.
        category: Index into :attr:`CocoPanoptic.classes`.
        is_thing: Countable object (True) or stuff (False).
        is_crowd: Marks a group of objects that COCO's metrics ignore.
        box: xyxy in pixels of the original image.
        area: Number of pixels of the segment's mask.
    """

    id: int
    category: int
    is_thing: bool
    is_crowd: bool
    box: tuple[float, float, float, float]
    area: int


@dataclass(frozen=True)
class PanopticImage:
    """One annotated image; the id map is read from disk on demand."""

    img_path: Path
    label_path: Path
    width: int
    height: int
    segments: tuple[PanopticSegment, ...]

    def read_ids(self) -> NDArray[np.int32]:
        """Read the segment id of every pixel.

        Returns:
            (H, W) int32; 0 where no segment is.

        Raises:
            ValueError: If the PNG cannot be read, or has another size than the json says.
            FileNotFoundError: If it does not exist.
        """
        try:
            # Never turned: ids lie on the pixels of the image as it is shown.
            with Image.open(self.label_path) as file:
                rgb = np.asarray(file.convert('RGB'), dtype=np.int32)
        except FileNotFoundError:
            raise
        except Exception as error:  # on damaged bytes Pillow raises nearly anything
            raise ValueError(
                f'{self.label_path}: expected a PNG of segment ids, got a file that cannot be read '
                f'({error}); unpack it again'
            ) from error
        if rgb.shape[:2] != (self.height, self.width):
            raise ValueError(
                f'expected a label map of {self.width} x {self.height} px as the json says, got '
                f'{rgb.shape[1]} x {rgb.shape[0]} px in {self.label_path}; take both from one '
                'release'
            )
        return rgb[..., 0] + 256 * rgb[..., 1] + 65536 * rgb[..., 2]

    def boxes(self) -> NDArray[np.float32]:
        """Return the boxes of all segments, (S, 4) xyxy in [0, 1] of the original image."""
        pixels = np.array([s.box for s in self.segments], dtype=np.float32).reshape(-1, 4)
        scale = np.array([self.width, self.height] * 2, dtype=np.float32)
        return (pixels / scale).astype(np.float32)

    def labelled_boxes(
        self, min_area: float = 0.01
    ) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
        """Return the boxes that serve as regions to classify.

        Args:
            min_area: Smallest area of a box as a share of the image. Crowds are left out.

        Returns:
            (R, 4) xyxy in [0, 1] of the original image and (R,) category indices.
        """
        boxes = self.boxes()
        area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        keep = (area >= min_area) & ~np.array([s.is_crowd for s in self.segments], dtype=bool)
        labels = np.array([s.category for s in self.segments], dtype=np.int64)
        return boxes[keep], labels[keep]


class CocoPanoptic:
    """Images and panoptic segments of one split, in the order of the json.

    Category indices follow the sorted category ids of the json (0..132 in COCO), whether or not a
    category occurs in the split, so that two splits of one dataset share them.

    Args:
        data_root: Folder with ``<split>/`` and ``annotations/panoptic_<split>.json`` next to
            ``annotations/panoptic_<split>/*.png``.
        split: Name of the split, e.g. ``'val2017'``.

    What the json may lack: ``supercategory`` (a class is then its own), ``isthing`` (a class is
    then a thing, with a warning), the ``iscrowd``, ``bbox`` and ``area`` of a segment (not a crowd;
    measured in the PNG), the ``width`` and ``height`` of an image (those of the PNG), the
    ``file_name`` of an annotation (the image's, as PNG), and all that is not named here. A box that
    is empty or leaves the image is measured as well.

    Raises:
        FileNotFoundError: If the json, the image folder or the label folder is missing.
        ValueError: If the json is no panoptic annotation, or a category is written twice.

    Examples:
        >>> dataset = CocoPanoptic('data/coco', 'val2017')  # doctest: +SKIP
        >>> ids = dataset[0].read_ids()  # doctest: +SKIP
    """

    def __init__(self, data_root: str | Path, split: str = 'val2017') -> None:
        root = Path(data_root)
        ann_file = root / 'annotations' / f'panoptic_{split}.json'
        label_dir = ann_file.with_suffix('')
        for path in (root / split, ann_file, label_dir):
            if not path.exists():
                raise FileNotFoundError(
                    f'expected the COCO panoptic layout under {root}, got no {path}; '
                    'unpack panoptic_annotations_trainval2017.zip into annotations/'
                )
        content = read_coco_json(
            ann_file, 'panoptic annotations', ('images', 'annotations', 'categories')
        )
        self._read_categories(ann_file, content['categories'])
        check_images(ann_file, content['images'])
        check_records(
            ann_file,
            'annotations',
            content['annotations'],
            ('image_id', 'segments_info'),
            'take panoptic_*.json, not instances_*.json',
        )
        check_ids(ann_file, 'annotations', content['annotations'], 'image_id')
        refuse_twins(ann_file, 'annotation', content['annotations'], 'image_id')
        check_matches(ann_file, content['images'], content['annotations'])
        annotations = {a['image_id']: a for a in content['annotations']}
        self.images: list[PanopticImage] = [
            self._parse(ann_file, image, annotations[image['id']], root / split)
            for image in content['images']
            if image['id'] in annotations
        ]
        if untold := len(content['images']) - len(self.images):
            print_log(
                f'{ann_file}: {untold} of {len(content["images"])} images have no annotation and '
                'are left out',
                logger='current',
                level=logging.WARNING,
            )

    def _read_categories(self, ann_file: Path, records: list[dict[str, Any]]) -> None:
        check_categories(ann_file, records)
        categories = sorted(records, key=lambda category: category['id'])
        self.classes: tuple[str, ...] = tuple(c['name'] for c in categories)
        untold = sum(c.get('isthing') is None for c in categories)
        if untold:
            print_log(
                f"{ann_file}: {untold} of {len(categories)} categories have no 'isthing' and count "
                'as things',
                logger='current',
                level=logging.WARNING,
            )
        self.is_thing: NDArray[np.bool_] = np.array(
            [c.get('isthing') in (1, None) for c in categories]
        )
        names = [c.get('supercategory') or c['name'] for c in categories]
        self.supercategories: tuple[str, ...] = tuple(dict.fromkeys(names))
        self.class_to_super: NDArray[np.int64] = np.array(
            [self.supercategories.index(name) for name in names], dtype=np.int64
        )
        self._index_of_id = {c['id']: i for i, c in enumerate(categories)}

    def _parse(
        self, ann_file: Path, image: dict[str, Any], annotation: dict[str, Any], img_dir: Path
    ) -> PanopticImage:
        name = file_name_of(image)
        if name is None:
            raise ValueError(
                f"{ann_file}: expected 'file_name' or 'coco_url' in each of images, got neither in "
                f'{shown(image)}'
            )
        label = annotation.get('file_name') or str(Path(name).with_suffix('.png'))
        label_path = ann_file.with_suffix('') / label
        width, height = image.get('width'), image.get('height')
        if width is None or height is None:
            width, height = read_image_size(label_path)
        bare = PanopticImage(img_dir / name, label_path, width, height, ())
        return replace(bare, segments=self._parse_segments(ann_file, bare, annotation))

    def _parse_segments(
        self, ann_file: Path, image: PanopticImage, annotation: dict[str, Any]
    ) -> tuple[PanopticSegment, ...]:
        infos = annotation['segments_info']
        where = f'segments_info of image_id {annotation["image_id"]}'
        if not isinstance(infos, list):
            raise ValueError(f'{ann_file}: expected a list as {where}, got {shown(infos)}')
        check_records(ann_file, where, infos, ('id', 'category_id'))
        strange = next((info for info in infos if not is_number(info['id'])), None)
        if strange is not None:
            raise ValueError(
                f"{ann_file}: expected a number, as in the PNG, as 'id' in each of {where}, got "
                f'{shown(strange)}'
            )
        infos = [_without_empty(info, image) for info in infos]
        measured = not all('bbox' in info and 'area' in info for info in infos)
        ids = image.read_ids() if measured else None
        segments = []
        for info in infos:
            if info['category_id'] not in self._index_of_id:
                raise ValueError(
                    "expected one of the json's categories, got category id "
                    f'{info["category_id"]!r} in image {image.img_path.name}; the annotation file '
                    f'{ann_file} is inconsistent'
                )
            category = self._index_of_id[info['category_id']]
            if ids is not None:
                info = {**_measure(ids == info['id']), **info}
            x, y, width, height = info['bbox']
            segments.append(
                PanopticSegment(
                    id=info['id'],
                    category=category,
                    is_thing=bool(self.is_thing[category]),
                    is_crowd=bool(info.get('iscrowd', 0)),
                    box=(x, y, x + width, y + height),
                    area=info['area'],
                )
            )
        return tuple(segments)

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> PanopticImage:
        return self.images[index]

    def __iter__(self) -> Iterator[PanopticImage]:
        return iter(self.images)


def _without_empty(info: dict[str, Any], image: PanopticImage) -> dict[str, Any]:
    """A segment without what is null, and without a box that is empty or leaves the image."""
    info = {key: value for key, value in info.items() if value is not None}
    x, y, width, height = info.get('bbox', (0, 0, 0, 0))
    # Tools round boxes outwards, by a pixel at most.
    inside = min(x, y) >= -1 and x + width <= image.width + 1 and y + height <= image.height + 1
    if min(width, height) <= 0 or not inside:
        info.pop('bbox', None)
    return info


def _measure(mask: NDArray[np.bool_]) -> dict[str, Any]:
    """Box (xywh, pixels) and area of a mask (H, W), as COCO writes them; zeros if it is empty."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        return {'bbox': [0, 0, 0, 0], 'area': 0}
    x, y = int(columns[0]), int(rows[0])
    return {
        'bbox': [x, y, int(columns[-1]) + 1 - x, int(rows[-1]) + 1 - y],
        'area': int(mask.sum()),
    }
