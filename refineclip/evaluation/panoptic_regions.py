"""Which segments of a panoptic data set serve as regions to classify, and pooling them."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from mmengine.logging import print_log
from numpy.typing import NDArray
from torch import Tensor

from refineclip.datasets.coco_panoptic import CocoPanoptic, PanopticImage, PanopticSegment
from refineclip.evaluation.patch_labels import WHOLE_CANVAS, segment_coverage

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

    def choose(self, image: PanopticImage) -> list[PanopticSegment]:
        """Return the segments of an image that count; crowds never do."""
        chosen = []
        for segment in image.segments:
            x1, y1, x2, y2 = segment.box
            area = max(x2 - x1, 0.0) * max(y2 - y1, 0.0)
            large = area >= self.min_area * image.width * image.height
            if large and self.area_px[0] <= area <= self.area_px[1] and not segment.is_crowd:
                chosen.append(segment)
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


def choose_classes(dataset: CocoPanoptic, names: Sequence[str] | None) -> NDArray[np.int64]:
    """Return the category indices of a vocabulary, in its order.

    Args:
        dataset: The data set.
        names: Class names of the data set; None takes all.

    Raises:
        ValueError: If there is no name, one occurs twice, or names are not of the data set.
    """
    if names is None:
        return np.arange(len(dataset.classes))
    unknown = [name for name in names if name not in dataset.classes]
    if unknown or not names or len(set(names)) < len(names):
        kind = 'none of the' if len(unknown) == len(names) else f'{len(unknown)} unknown'
        raise ValueError(
            f"expected different class names of the data set, got {kind} data set's classes or "
            f'repeats: {unknown or list(names)}; its classes are {", ".join(dataset.classes)}'
        )
    return np.array([dataset.classes.index(name) for name in names], dtype=np.int64)


def warn_of_empty(empty: Sequence[tuple[Path, int]]) -> None:
    """Say how many segments have no pixel in their PNG, (path, id) each, and were left out."""
    if empty:
        print_log(
            f'{len(empty)} segments of the json have no pixel in their PNG and are left out '
            f'(first: id {empty[0][1]} in {empty[0][0]})',
            logger='current',
            level=logging.WARNING,
        )


def region_masks(
    ids: NDArray[np.integer],
    segments: Sequence[int],
    grid: tuple[int, int],
    picture: Sequence[float] = WHOLE_CANVAS,
    coverage: tuple[NDArray[np.int64], NDArray[np.float32]] | None = None,
) -> NDArray[np.float32]:
    """Return the share of every token that each of some segments covers.

    Args:
        ids: (H, W) segment id per pixel.
        segments: R ids, each of which occurs.
        grid: Rows and columns of the dense map.
        picture: See :func:`~refineclip.evaluation.patch_labels.segment_coverage`.
        coverage: What that function returned for the rest, if the caller has it already.

    Returns:
        (R, h, w) in [0, 1]; none is all zero.
    """
    values, shares = segment_coverage(ids, grid, picture) if coverage is None else coverage
    return shares[np.searchsorted(values, np.asarray(segments, dtype=np.int64))]


def pool_masks(dense_map: Tensor, masks: Tensor, mask_pooling: str = 'area') -> Tensor:
    """Average a dense map under masks.

    Args:
        dense_map: (D, h, w), as the encoder gives it.
        masks: (R, h, w) share of each token that each mask covers, none all zero.
        mask_pooling: See :class:`RegionRules`.

    Returns:
        (R, D) float32.
    """
    weights = masks.float().flatten(1)
    if mask_pooling == 'any':
        weights = (weights > 0).float()
    weights = weights / weights.sum(dim=1, keepdim=True)
    return weights @ dense_map.flatten(1).T.to(torch.float32)
