"""Which panoptic segment a token of a dense map shows."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray


def axis_coverage(size: int, cells: int) -> NDArray[np.float32]:
    """Return how much of each cell every pixel of one image axis fills.

    Args:
        size: Pixels along the axis.
        cells: Tokens along the axis; they divide the axis evenly, at fractional pixels if need be.

    Returns:
        (cells, size), rows sum to 1.
    """
    edges = np.linspace(0.0, size, cells + 1)
    pixels = np.arange(size, dtype=np.float64)
    start = np.maximum(edges[:-1, None], pixels[None])
    stop = np.minimum(edges[1:, None], pixels[None] + 1)
    overlap = np.clip(stop - start, 0.0, None)
    return (overlap * cells / size).astype(np.float32)


def patch_segments(
    ids: NDArray[np.integer], grid: tuple[int, int], min_coverage: float = 0.5
) -> NDArray[np.int64]:
    """Give every token the segment that covers at least ``min_coverage`` of it.

    The grid spans the whole image, as it does when images are squashed to the input size.

    Args:
        ids: (H, W) segment id per pixel; 0 is unlabelled.
        grid: Rows and columns of the dense map.
        min_coverage: Share of the token's area in (0, 1]; the coverage is exact, also where token
            borders cut through pixels. Of two segments at exactly one half the lower id wins.

    Returns:
        (h * w,) segment ids in row-major order; 0 where no segment covers enough.

    Raises:
        ValueError: If ``ids`` is no map or ``min_coverage`` is out of range.
    """
    if ids.ndim != 2:
        raise ValueError(f'expected an id map of shape (H, W), got shape {ids.shape}')
    if not 0.0 < min_coverage <= 1.0:
        raise ValueError(f'expected min_coverage in (0, 1], got {min_coverage}')
    values, inverse = np.unique(ids, return_inverse=True)
    rows = axis_coverage(ids.shape[0], grid[0])
    columns = axis_coverage(ids.shape[1], grid[1])
    masks = inverse.reshape(ids.shape)[None] == np.arange(len(values))[:, None, None]
    coverage = rows @ masks.astype(np.float32) @ columns.T
    coverage[values == 0] = 0.0
    coverage = coverage.reshape(len(values), -1)
    # The slack keeps float rounding from deciding about a token that is exactly half covered.
    enough = coverage.max(axis=0) >= min_coverage - 1e-5
    return np.where(enough, values[coverage.argmax(axis=0)], 0).astype(np.int64)


def map_labels(segments: NDArray[np.integer], labels: Mapping[int, int]) -> NDArray[np.int64]:
    """Turn segment ids into class labels.

    Args:
        segments: (N,) segment ids, 0 = none.
        labels: Class label of each segment id; ids that it lacks become -1.

    Returns:
        (N,) labels, -1 where there is no segment.
    """
    return np.array([labels.get(int(segment), -1) for segment in segments], dtype=np.int64)
