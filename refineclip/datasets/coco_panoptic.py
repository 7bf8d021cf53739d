"""Panoptic ground truth in the published COCO layout: one json, and a PNG of ids per image."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image


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
            ValueError: If the PNG and the json disagree on the size of the image.
        """
        with Image.open(self.label_path) as file:
            rgb = np.asarray(file.convert('RGB'), dtype=np.int32)
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

    Raises:
        FileNotFoundError: If the json, the image folder or the label folder is missing.
        ValueError: If the json is no panoptic annotation.

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
        content = json.loads(ann_file.read_text())
        if missing := {'images', 'annotations', 'categories'} - content.keys():
            raise ValueError(
                f'expected a COCO panoptic json, got {ann_file} without {sorted(missing)}'
            )
        categories = sorted(content['categories'], key=lambda category: category['id'])
        self.classes: tuple[str, ...] = tuple(c['name'] for c in categories)
        self.is_thing: NDArray[np.bool_] = np.array([bool(c['isthing']) for c in categories])
        names = [c['supercategory'] for c in categories]
        self.supercategories: tuple[str, ...] = tuple(dict.fromkeys(names))
        self.class_to_super: NDArray[np.int64] = np.array(
            [self.supercategories.index(name) for name in names], dtype=np.int64
        )
        self._index_of_id = {c['id']: i for i, c in enumerate(categories)}
        annotations = {a['image_id']: a for a in content['annotations']}
        self.images: list[PanopticImage] = [
            self._parse(image, annotations[image['id']], root / split, label_dir)
            for image in content['images']
            if image['id'] in annotations
        ]

    def _parse(
        self, image: dict[str, Any], annotation: dict[str, Any], img_dir: Path, label_dir: Path
    ) -> PanopticImage:
        segments = []
        for info in annotation['segments_info']:
            if info['category_id'] not in self._index_of_id:
                raise ValueError(
                    f"expected one of the json's categories, got category id {info['category_id']} "
                    f'in image {image["file_name"]}; the annotation file is inconsistent'
                )
            category = self._index_of_id[info['category_id']]
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
        return PanopticImage(
            img_path=img_dir / image['file_name'],
            label_path=label_dir / annotation['file_name'],
            width=image['width'],
            height=image['height'],
            segments=tuple(segments),
        )

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> PanopticImage:
        return self.images[index]

    def __iter__(self) -> Iterator[PanopticImage]:
        return iter(self.images)
