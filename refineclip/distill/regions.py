"""Region samplers: where the student, the teacher and the Refiner look in an image.

Every sampler is called as ``sampler(width, height, generator, img_path)``, draws from the given
numpy generator only, and returns (R, 4) float32 boxes, xyxy in [0, 1] of the original image (after
its EXIF rotation). Drawn boxes have whole-pixel edges, so that a crop shows exactly its region.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
from mmengine.logging import print_log
from mmengine.registry import TASK_UTILS
from numpy.typing import NDArray

from refineclip.datasets.proposals import load_proposals, proposals_of

Boxes = NDArray[np.float32]
Labels = NDArray[np.int64]


class RegionSampler(Protocol):
    """What a region sampler must offer. It may also have ``check_images(img_paths)``.

    ``check_images`` is called once with all images before training, to raise or warn about a
    sampler that does not fit them.
    """

    def __call__(
        self, width: int, height: int, generator: np.random.Generator, img_path: str
    ) -> Boxes | tuple[Boxes, Labels]:
        """Return (R, 4) float32 xyxy boxes in [0, 1] of the image, and (R,) labels if it has."""
        ...


def _normalise(boxes_px: NDArray[Any], width: int, height: int) -> Boxes:
    """Divide (R, 4) pixel boxes by the image size; float64 in, float32 out, within [0, 1]."""
    boxes = boxes_px.reshape(-1, 4) / np.array([width, height, width, height], np.float64)
    return boxes.clip(0, 1).astype(np.float32)


@TASK_UTILS.register_module()
class GridRegions:
    """Cells of a random regular grid ("image patches" of CLIPSelf, arXiv 2310.01403).

    The grid has m rows, m in 1..max_split, and n columns, n in ceil(m / 2)..min(2m, max_split):
    24 shapes for ``max_split=6``, all equally likely. Cells are shuffled and at most
    ``max_regions`` are kept.

    Args:
        max_split: Largest number of rows or columns; 6 in CLIPSelf's published code.
        max_regions: Most cells per image; 20 in CLIPSelf's published code.
    """

    def __init__(self, max_split: int = 6, max_regions: int = 20) -> None:
        _check_positive('max_split', max_split)
        _check_positive('max_regions', max_regions)
        self.max_regions = max_regions
        self.shapes = [
            (m, n)
            for m in range(1, max_split + 1)
            for n in range(math.ceil(m / 2), min(2 * m, max_split) + 1)
        ]

    def __call__(
        self, width: int, height: int, generator: np.random.Generator, img_path: str = ''
    ) -> Boxes:
        """Draw a grid; returns (R, 4) float32 xyxy in [0, 1], R <= max_regions."""
        # A grid finer than the pixels would have empty cells.
        shapes = [(m, n) for m, n in self.shapes if m <= height and n <= width]
        rows, cols = shapes[int(generator.integers(len(shapes)))]
        x = np.rint(np.linspace(0, width, cols + 1))
        y = np.rint(np.linspace(0, height, rows + 1))
        row, col = np.divmod(generator.permutation(rows * cols)[: self.max_regions], cols)
        cells = np.stack([x[col], y[row], x[col + 1], y[row + 1]], axis=1)
        return _normalise(cells, width, height)


@TASK_UTILS.register_module()
class RandomCropRegions:
    """Random boxes of given area and aspect ratio, in groups that keep their order.

    Args:
        groups: One dict per group, ``num`` boxes each with ``area`` (low, high) as a fraction of
            the image, uniform, and ``ratio`` (low, high) width / height in pixels, log-uniform.
            The default, 8 boxes of area .2-.5 with ratio 2/3-3/2 for the Refiner and SCD, is not
            stated in the paper; default from our pilot, ratio from UniRefiner (arXiv 2605.19622).
    """

    def __init__(
        self,
        groups: Sequence[dict[str, Any]] = (
            {'num': 8, 'area': (0.2, 0.5), 'ratio': (2 / 3, 3 / 2)},
        ),
    ) -> None:
        self.groups = [self._parse_group(group) for group in groups]
        if not self.groups:
            raise ValueError('RandomCropRegions: expected at least one group, got none.')

    @staticmethod
    def _parse_group(
        group: dict[str, Any],
    ) -> tuple[int, tuple[float, float], tuple[float, float]]:
        unknown = set(group) - {'num', 'area', 'ratio'}
        if unknown or 'num' not in group or 'area' not in group:
            raise ValueError(
                "RandomCropRegions: expected groups with keys 'num', 'area' and optionally "
                f"'ratio', got {sorted(group)}."
            )
        area, ratio = tuple(group['area']), tuple(group.get('ratio', (2 / 3, 3 / 2)))
        _check_positive('num', group['num'])
        if not 0 < area[0] <= area[1] <= 1:
            raise ValueError(f'area: expected (low, high) within (0, 1], got {area}.')
        if not 0 < ratio[0] <= ratio[1]:
            raise ValueError(f'ratio: expected (low, high), both above 0, got {ratio}.')
        return group['num'], area, ratio

    def __call__(
        self, width: int, height: int, generator: np.random.Generator, img_path: str = ''
    ) -> Boxes:
        """Draw all groups; returns (R, 4) float32 xyxy in [0, 1], R the sum of ``num``."""
        boxes = [
            self._draw(width, height, generator, area, ratio)
            for num, area, ratio in self.groups
            for _ in range(num)
        ]
        return _normalise(np.array(boxes), width, height)

    @staticmethod
    def _draw(
        width: int,
        height: int,
        generator: np.random.Generator,
        area: tuple[float, float],
        ratio: tuple[float, float],
    ) -> tuple[int, int, int, int]:
        """Draw one pixel box; a ratio that does not fit is narrowed so that the area holds."""
        pixels = generator.uniform(*area) * width * height
        # A box of this area fits the image exactly if its ratio is in [pixels / h^2, w^2 / pixels].
        low, high = max(ratio[0], pixels / height**2), min(ratio[1], width**2 / pixels)
        if low > high:
            low = high = min(max(ratio[0], pixels / height**2), width**2 / pixels)
        aspect = math.exp(generator.uniform(math.log(low), math.log(high)))
        w = min(max(round(math.sqrt(pixels * aspect)), 1), width)
        h = min(max(round(math.sqrt(pixels / aspect)), 1), height)
        x = int(generator.integers(width - w + 1))
        y = int(generator.integers(height - h + 1))
        return x, y, x + w, y + h


@TASK_UTILS.register_module()
class ProposalRegions:
    """Boxes of a proposals file ("region proposals" of CLIPSelf, arXiv 2310.01403).

    As in CLIPSelf's published code, ``max_regions`` boxes are drawn first and those of invalid area
    then dropped, so that an image may get fewer; one that keeps none gets its top-left corner of
    w / 4 x h / 4. The teacher's crop of a proposal is larger than the box there: set
    ``crop_enlarge=1.5`` of :class:`RegionPreprocessor`. That enlarges the crop of the corner, too,
    which the published code does not.

    The published RegionCLIP baseline takes the first 20 boxes of the file whatever their area:
    ``shuffle=False, area_px=None, with_labels=True``.

    Args:
        proposal_file: JSON in one of the formats of :func:`load_proposals`.
        max_regions: Most boxes per image; 20 in CLIPSelf's published code.
        area_px: (low, high) valid area in square pixels of the original image, of the box as the
            file gives it; 8^2 to 1024^2 in CLIPSelf's published code. None takes every area.
        shuffle: Draw at random; otherwise the first boxes in the order of the file.
        with_labels: Also return the noun of each box, its position in the file's ``categories``,
            for :class:`RegionTextLoss`. An image without a valid proposal then gets no region.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The file has no known format, no labels where they are asked for, or no
            proposals for any image of the dataset.
    """

    def __init__(
        self,
        proposal_file: str,
        max_regions: int = 20,
        area_px: tuple[float, float] | None = (8**2, 1024**2),
        shuffle: bool = True,
        with_labels: bool = False,
    ) -> None:
        _check_positive('max_regions', max_regions)
        self.proposal_file = str(proposal_file)
        self.max_regions = max_regions
        self.area_px = (0.0, math.inf) if area_px is None else area_px
        self.shuffle = shuffle
        self.with_labels = with_labels
        self.proposals = load_proposals(proposal_file)
        if with_labels and any((rows[:, 4] < 0).any() for rows in self.proposals.values()):
            raise ValueError(
                f'ProposalRegions: expected {proposal_file} to name its boxes (with_labels=True), '
                "got a file without 'categories'. Give a file in the COCO annotations layout."
            )

    def check_images(self, img_paths: Sequence[str]) -> None:
        """Raise ValueError if no image has proposals, warn if some have none."""
        lacking = [path for path in img_paths if proposals_of(self.proposals, path) is None]
        if lacking and len(lacking) == len(img_paths):
            raise ValueError(
                f'ProposalRegions: expected {self.proposal_file} to hold proposals of the images, '
                f'got none for any of {len(img_paths)} images (first: {img_paths[0]}; first key of '
                f'the file: {next(iter(self.proposals), None)!r}). Make the file for this folder.'
            )
        if lacking:
            fallback = 'no region' if self.with_labels else 'the top-left w / 4 x h / 4'
            print_log(
                f'{self.proposal_file} has no proposals for {len(lacking)} of {len(img_paths)} '
                f'images (first: {lacking[0]}); they get {fallback}.',
                logger='current',
                level=logging.WARNING,
            )

    def __call__(
        self, width: int, height: int, generator: np.random.Generator, img_path: str
    ) -> Boxes | tuple[Boxes, Labels]:
        """Draw proposals; returns (R, 4) float32 xyxy in [0, 1], and (R,) labels if asked."""
        rows = proposals_of(self.proposals, img_path)
        rows = np.zeros((0, 5), np.float32) if rows is None else rows
        order = generator.permutation(len(rows)) if self.shuffle else np.arange(len(rows))
        rows = rows[order[: self.max_regions]]
        boxes = rows[:, :4].clip(0, np.array([width, height, width, height], np.float32))
        low, high = self.area_px
        valid = (_area(rows) >= low) & (_area(rows) <= high) & (_area(boxes) > 0)
        if self.with_labels:
            return _normalise(boxes[valid], width, height), rows[valid, 4].astype(np.int64)
        if not valid.any():
            return np.array([[0, 0, 0.25, 0.25]], np.float32)
        return _normalise(boxes[valid], width, height)


def _area(boxes: NDArray[np.float32]) -> NDArray[np.float32]:
    """Areas (R,) of rows that begin with x1, y1, x2, y2; 0 where a side is not positive."""
    return (boxes[:, 2] - boxes[:, 0]).clip(0) * (boxes[:, 3] - boxes[:, 1]).clip(0)


def _check_positive(name: str, value: int) -> None:
    if not isinstance(value, int) or value < 1:
        raise ValueError(f'{name}: expected an integer >= 1, got {value!r}.')
