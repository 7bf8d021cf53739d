"""Scores that can be resampled over images, and the paired bootstrap on them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_MAX_COUNTS = 2**24  # numbers of resampled counts held at once


@dataclass(frozen=True)
class ImageScores:
    """A measure kept as one numerator and one denominator per image.

    The measure is the mean over cells of ``sum over images of numerator / sum over images of
    denominator``. This covers a mean over images (denominator 1, or 0 where the measure is
    undefined for an image), an accuracy over tokens or boxes (hits and counts) and a mean IoU over
    classes (one cell per class and run). Cells whose denominator is 0 are left out of the mean.

    Attributes:
        numerator: (I,) or (I, cells).
        denominator: Same shape, non-negative.
    """

    numerator: NDArray[np.float64]
    denominator: NDArray[np.float64]

    def __post_init__(self) -> None:
        if self.numerator.shape != self.denominator.shape:
            raise ValueError(
                f'expected numerator and denominator of one shape, got {self.numerator.shape} '
                f'and {self.denominator.shape}'
            )

    @classmethod
    def from_values(cls, values: Sequence[float] | NDArray[np.floating]) -> ImageScores:
        """Build the mean over images of ``values`` (I,), leaving NaN out."""
        array = np.asarray(values, dtype=np.float64)
        valid = ~np.isnan(array)
        return cls(np.where(valid, array, 0.0), valid.astype(np.float64))

    @classmethod
    def from_hits(
        cls, hits: NDArray[np.generic], images: NDArray[np.integer], num_images: int
    ) -> ImageScores:
        """Build an accuracy from single decisions.

        Args:
            hits: (M,) 1 for right, 0 for wrong.
            images: (M,) index of the image of each decision.
            num_images: Images in all, including those without a decision.
        """
        total = np.bincount(images, minlength=num_images).astype(np.float64)
        right = np.bincount(images, weights=hits.astype(np.float64), minlength=num_images)
        return cls(right.astype(np.float64), total)

    @property
    def num_images(self) -> int:
        """Number of images, also those that contribute nothing."""
        return len(self.numerator)

    @property
    def value(self) -> float:
        """The measure on the images as they are; NaN if no cell is defined."""
        return float(self.resample(np.ones((1, self.num_images)))[0])

    @property
    def per_image(self) -> NDArray[np.float64]:
        """The measure of every image alone, (I,); NaN where it is undefined."""
        return self.resample(np.eye(self.num_images))

    def resample(self, counts: NDArray[np.floating]) -> NDArray[np.float64]:
        """Evaluate the measure on resampled images.

        Args:
            counts: (S, I) how often each image occurs in each of S resamples.

        Returns:
            (S,) values of the measure.
        """
        numerator = counts @ self.numerator.reshape(self.num_images, -1)
        denominator = counts @ self.denominator.reshape(self.num_images, -1)
        defined = denominator > 0
        ratio = np.divide(numerator, denominator, out=np.zeros_like(numerator), where=defined)
        cells = defined.sum(axis=1)
        return np.where(cells > 0, ratio.sum(axis=1) / np.maximum(cells, 1), np.nan)


@dataclass(frozen=True)
class PairedDifference:
    """Difference of one measure between two maps of the same images.

    Attributes:
        value: a - b on the images as they are.
        se: Standard error over resampled images.
        low: 2.5th percentile of the resampled differences.
        high: 97.5th percentile.
    """

    value: float
    se: float
    low: float
    high: float


def paired_bootstrap(
    a: ImageScores, b: ImageScores, num_resamples: int = 2000, seed: int = 0
) -> PairedDifference:
    """Resample images with replacement, the same ones for both sides.

    Args:
        a: Scores of one map.
        b: Scores of the other map on the same images in the same order.
        num_resamples: Bootstrap samples.
        seed: Seed of the resampling; equal seeds give equal resamples for every measure.

    Returns:
        The difference; resamples in which either side is undefined are left out.

    Raises:
        ValueError: If the two sides have different numbers of images or just one, or if a side has
            no defined cell.
    """
    if a.num_images != b.num_images:
        raise ValueError(
            f'expected scores of the same images, got {a.num_images} and {b.num_images} images'
        )
    if a.num_images < 2:
        raise ValueError(
            f'expected two or more images to resample, got {a.num_images}; compare on more images'
        )
    if math.isnan(a.value) or math.isnan(b.value):
        raise ValueError(
            'expected measures that are defined on these images, got one that is not; leave it out'
        )
    generator = np.random.default_rng(seed)
    uniform = np.full(a.num_images, 1.0 / a.num_images)
    parts = []
    # In parts, which draw what one call would: 2000 resamples of ImageNet are 800 MB.
    rows = max(1, _MAX_COUNTS // a.num_images)
    for start in range(0, num_resamples, rows):
        size = min(rows, num_resamples - start)
        counts = generator.multinomial(a.num_images, uniform, size=size).astype(np.float64)
        parts.append(a.resample(counts) - b.resample(counts))
    differences = np.concatenate(parts)
    low, high = np.nanpercentile(differences, [2.5, 97.5])
    se = float(np.nanstd(differences, ddof=1))
    return PairedDifference(a.value - b.value, se, float(low), float(high))
