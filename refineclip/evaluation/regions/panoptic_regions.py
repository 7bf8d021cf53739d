"""What the tokens of a panoptic image show, and which of its segments are regions to classify."""

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
from torch.nn import functional as F

from refineclip.datasets.coco_panoptic import CocoPanoptic, PanopticImage
from refineclip.evaluation.spatial.patch_labels import assign_tokens, map_labels, segment_coverage

from .rules import RegionRules


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
        boxes: (R, 4) float32 xyxy in [0, 1] of the original image.
        masks: (R, h, w) float32 share of each token that each region's mask covers; with the mask
            pooling 'resized' 1 where the resized mask is above 0, which may be nowhere.
        segments: (N,) segment id of every token, 0 for none.
        classes: (N,) category of the data set of every token, -1 for none.
        empty: Ids of segments without a pixel, which are left out.
    """

    rows: list[int]
    labels: Tensor
    boxes: Tensor
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
    boxes = rules.boxes(image, ids)
    rows = [
        row
        for row in rules.choose(image, boxes)
        if image.segments[row].category in class_of and image.segments[row].id in present
    ]
    chosen = [image.segments[row] for row in rows]
    if rules.mask_pooling == 'resized':
        masks = resized_masks(ids, [s.id for s in chosen], grid, picture)
    else:
        layers = np.searchsorted(values, np.array([s.id for s in chosen], dtype=np.int64))
        masks = torch.from_numpy(coverage[layers])
    segments = assign_tokens(values, coverage, min_coverage)
    return ImageLabels(
        rows=rows,
        labels=torch.tensor([class_of[s.category] for s in chosen], dtype=torch.long),
        boxes=torch.from_numpy(relative_boxes(boxes[rows], image)),
        masks=masks,
        segments=segments,
        classes=map_labels(segments, {s.id: s.category for s in image.segments}),
        empty=tuple(s.id for s in image.segments if s.id not in present),
    )


def relative_boxes(boxes: NDArray[np.float64], image: PanopticImage) -> NDArray[np.float32]:
    """Bring (S, 4) xyxy pixels of an image to [0, 1] of it."""
    size = np.array([image.width, image.height] * 2, dtype=np.float32)
    return (boxes.astype(np.float32) / size).astype(np.float32)


def resized_masks(
    ids: NDArray[np.integer],
    segments: Sequence[int],
    grid: tuple[int, int],
    picture: Sequence[float],
) -> Tensor:
    """Resize the masks of segments to the tokens of the picture, as CLIPSelf's evaluation does.

    Bicubic interpolation without antialiasing reads 4 x 4 pixels about the centre of a token and
    no other. The published code does not pin torchvision, which resized tensors so in its time
    (up to 0.16).

    Args:
        ids: (H, W) segment id per pixel.
        segments: R ids.
        grid: Rows and columns of the dense map.
        picture: xyxy rectangle of the picture on the map's canvas, in [0, 1].

    Returns:
        (R, h, w) float32, 1 where the interpolated mask is above 0.
    """
    # Rounded twice: the rectangle is in float32, and a half goes to the even number as published.
    left, top, right, bottom = (
        round(round(float(edge) * cells, 3))
        for edge, cells in zip(picture, (grid[1], grid[0]) * 2, strict=True)
    )
    right, bottom = max(right, left + 1), max(bottom, top + 1)
    found = torch.zeros(len(segments), *grid)
    if segments:
        masks = np.stack([ids == segment for segment in segments])[:, None].astype(np.float32)
        small = F.interpolate(
            torch.from_numpy(masks), (bottom - top, right - left), mode='bicubic', antialias=False
        )
        found[:, top:bottom, left:right] = (small[:, 0] > 0).float()
    return found
