"""Which panoptic segment a token of a dense map shows, and how much of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

WHOLE_CANVAS = (0.0, 0.0, 1.0, 1.0)


def axis_coverage(
    size: int, cells: int, span: tuple[float, float] = (0.0, 1.0)
) -> NDArray[np.float32]:
    """Return how much of each cell every pixel of one image axis fills.

    Args:
        size: Pixels of the picture along the axis.
        cells: Tokens along the axis; they divide the canvas evenly, at fractional pixels if need
            be.
        span: Where the picture begins and ends on the canvas, in [0, 1] of it; the rest is padding.

    Returns:
        (cells, size); a row sums to the share of its cell that the picture fills, 1 without
        padding.
    """
    pixels = np.linspace(span[0] * cells, span[1] * cells, size + 1)
    cell = np.arange(cells, dtype=np.float64)[:, None]
    start = np.maximum(cell, pixels[None, :-1])
    stop = np.minimum(cell + 1, pixels[None, 1:])
    return np.clip(stop - start, 0.0, None).astype(np.float32)


def segment_coverage(
    ids: NDArray[np.integer], grid: tuple[int, int], picture: Sequence[float] = WHOLE_CANVAS
) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Return the share of every token that each segment covers.

    Args:
        ids: (H, W) segment id per pixel; 0 is unlabelled.
        grid: Rows and columns of the dense map.
        picture: xyxy rectangle of the picture on the canvas that the grid spans, in [0, 1] of the
            canvas. The default is a picture squashed to the canvas; a letterbox leaves padding,
            which no segment covers.

    Returns:
        (S,) the ids that occur, ascending, and (S, h, w) their shares in [0, 1]. The shares are
        exact, also where token borders cut through pixels.

    Raises:
        ValueError: If ``ids`` is no map or ``picture`` is no rectangle within the canvas.
    """
    if ids.ndim != 2 or 0 in ids.shape:
        raise ValueError(f'expected an id map of shape (H, W), got shape {ids.shape}')
    left, top, right, bottom = (float(edge) for edge in picture)
    slack = 1e-5  # rectangles come in float32
    inside = min(left, top) >= -slack and max(right, bottom) <= 1 + slack
    if not inside or left >= right or top >= bottom:
        raise ValueError(
            f'expected the xyxy rectangle of the picture in [0, 1] of the canvas, got {picture}'
        )
    values, inverse = np.unique(ids, return_inverse=True)
    rows = axis_coverage(ids.shape[0], grid[0], (top, bottom))
    columns = axis_coverage(ids.shape[1], grid[1], (left, right))
    masks = inverse.reshape(ids.shape)[None] == np.arange(len(values))[:, None, None]
    return values.astype(np.int64), rows @ masks.astype(np.float32) @ columns.T


def patch_segments(
    ids: NDArray[np.integer],
    grid: tuple[int, int],
    min_coverage: float = 0.5,
    picture: Sequence[float] = WHOLE_CANVAS,
) -> NDArray[np.int64]:
    """Give every token the segment that covers at least ``min_coverage`` of it.

    Args:
        ids: (H, W) segment id per pixel; 0 is unlabelled.
        grid: Rows and columns of the dense map.
        min_coverage: Share of the token's area in (0, 1]. Of two segments at exactly one half the
            lower id wins.
        picture: See :func:`segment_coverage`. Tokens of the padding get 0.

    Returns:
        (h * w,) segment ids in row-major order; 0 where no segment covers enough.

    Raises:
        ValueError: If ``ids`` is no map, or ``min_coverage`` or ``picture`` is out of range.
    """
    if not 0.0 < min_coverage <= 1.0:
        raise ValueError(f'expected min_coverage in (0, 1], got {min_coverage}')
    return assign_tokens(*segment_coverage(ids, grid, picture), min_coverage)


def assign_tokens(
    values: NDArray[np.int64], coverage: NDArray[np.float32], min_coverage: float = 0.5
) -> NDArray[np.int64]:
    """Give every token the id that covers enough of it: the second half of `patch_segments`.

    Args:
        values: (S,) segment ids.
        coverage: (S, h, w) share of each token.
        min_coverage: See :func:`patch_segments`.
    """
    coverage = np.where((values == 0)[:, None], 0.0, coverage.reshape(len(values), -1))
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
