"""Which segments of a panoptic data set serve as regions to classify, and pooling them."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from mmengine.logging import print_log
from numpy.typing import NDArray
from torch import Tensor

from refineclip.datasets.coco_panoptic import CocoPanoptic, PanopticImage
from refineclip.evaluation.spatial.patch_labels import assign_tokens, map_labels, segment_coverage

MASK_POOLINGS = ('area', 'any')


@dataclass(frozen=True)
class RegionRules:
    """Which segments count as regions.

    Attributes:
        area_px: Least and largest area of the box, in square pixels of the original image. CLIPSelf
            evaluates 8^2 to 1024^2.
        min_area: Least area of the box as a share of the image.
        mask_pooling: 'area' weighs a token by the share of it that the mask covers; 'any' takes the
            mean over all tokens that the mask touches, which is close to CLIPSelf's published
            protocol (down-sampled mask > 0) and lets neighbours of a small object in.
    """

    area_px: tuple[float, float] = (8**2, 1024**2)
    min_area: float = 0.0
    mask_pooling: str = 'area'

    def __post_init__(self) -> None:
        low, high = self.area_px
        if not 0 <= low < high or not 0 <= self.min_area < 1:
            raise ValueError(
                'expected 0 <= smallest < largest area in square pixels and min_area in [0, 1), '
                f'got {self.area_px} and {self.min_area}'
            )
        if self.mask_pooling not in MASK_POOLINGS:
            raise ValueError(
                f'mask_pooling: expected one of {MASK_POOLINGS}, got {self.mask_pooling!r}'
            )

    def choose(self, image: PanopticImage) -> list[int]:
        """Return the positions of the segments of an image that count; crowds never do."""
        chosen = []
        for position, segment in enumerate(image.segments):
            x1, y1, x2, y2 = segment.box
            area = max(x2 - x1, 0.0) * max(y2 - y1, 0.0)
            large = area >= self.min_area * image.width * image.height
            if large and self.area_px[0] <= area <= self.area_px[1] and not segment.is_crowd:
                chosen.append(position)
        return chosen


def check_files(dataset: CocoPanoptic) -> None:
    """Raise before long work if photos or label maps are missing.

    Raises:
        FileNotFoundError: Naming how many, and the first.
        ValueError: If the data set has no image.
    """
    if len(dataset) == 0:
        raise ValueError('expected annotated images, got a panoptic data set without any')
    kinds: list[tuple[str, list[Path]]] = [
        ('photos', [image.img_path for image in dataset]),
        ('label maps (PNG)', [image.label_path for image in dataset]),
    ]
    for kind, paths in kinds:
        missing = [path for path in paths if not path.is_file()]
        if missing:
            raise FileNotFoundError(
                f'expected all {len(paths)} {kind} that the json names, got {len(missing)} missing '
                f'(first: {missing[0]}); unpack the whole split, or use a json of your part of it'
            )


def choose_classes(classes: Sequence[str], names: Sequence[str] | None) -> NDArray[np.int64]:
    """Return the category indices of a vocabulary, in its order.

    Args:
        classes: Class names of the data set.
        names: Class names of the data set; None takes all.

    Raises:
        ValueError: If there is no name, one occurs twice, or names are not of the data set.
    """
    if names is None:
        return np.arange(len(classes))
    unknown = [name for name in names if name not in classes]
    if unknown or not names or len(set(names)) < len(names):
        kind = 'none of the' if len(unknown) == len(names) else f'{len(unknown)} unknown'
        raise ValueError(
            f"expected different class names of the data set, got {kind} data set's classes or "
            f'repeats: {unknown or list(names)}; its classes are {", ".join(classes)}'
        )
    return np.array([list(classes).index(name) for name in names], dtype=np.int64)


def warn_of_empty(empty: Sequence[tuple[Path, int]]) -> None:
    """Say how many segments have no pixel in their PNG, (path, id) each, and were left out."""
    if empty:
        print_log(
            f'{len(empty)} segments of the json have no pixel in their PNG and are left out '
            f'(first: id {empty[0][1]} in {empty[0][0]})',
            logger='current',
            level=logging.WARNING,
        )


@dataclass(frozen=True)
class ImageLabels:
    """What the tokens and regions of one image show.

    Attributes:
        rows: R positions of the regions in the image's segments.
        labels: (R,) int64 index into the vocabulary.
        masks: (R, h, w) float32 share of each token that each region's mask covers, none all 0.
        segments: (N,) segment id of every token, 0 for none.
        classes: (N,) category of the data set of every token, -1 for none.
        empty: Ids of segments without a pixel, which are left out.
    """

    rows: list[int]
    labels: Tensor
    masks: Tensor
    segments: NDArray[np.int64]
    classes: NDArray[np.int64]
    empty: tuple[int, ...]


def label_image(
    image: PanopticImage,
    ids: NDArray[np.integer],
    grid: tuple[int, int],
    picture: Sequence[float],
    rules: RegionRules,
    class_of: Mapping[int, int],
    min_coverage: float = 0.5,
) -> ImageLabels:
    """Label the tokens of a dense map and find the regions to classify.

    Args:
        image: The annotated image.
        ids: (H, W) segment id per pixel.
        grid: Rows and columns of the dense map.
        picture: xyxy rectangle of the picture on the map's canvas, in [0, 1].
        rules: Which segments are regions.
        class_of: Category of the data set -> index into the vocabulary; others are left out.
        min_coverage: A token shows the segment that covers at least this share of it.
    """
    values, coverage = segment_coverage(ids, grid, picture)
    present = set(values.tolist())
    rows = [
        row
        for row in rules.choose(image)
        if image.segments[row].category in class_of and image.segments[row].id in present
    ]
    chosen = [image.segments[row] for row in rows]
    layers = np.searchsorted(values, np.array([s.id for s in chosen], dtype=np.int64))
    segments = assign_tokens(values, coverage, min_coverage)
    return ImageLabels(
        rows=rows,
        labels=torch.tensor([class_of[s.category] for s in chosen], dtype=torch.long),
        masks=torch.from_numpy(coverage[layers]),
        segments=segments,
        classes=map_labels(segments, {s.id: s.category for s in image.segments}),
        empty=tuple(s.id for s in image.segments if s.id not in present),
    )
