"""Shapes, patterns and textures as functions of coordinates."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float64]


def inside(shape: int, u: Field, v: Field) -> NDArray[np.bool_]:
    """Whether points lie in a shape.

    Args:
        shape: Index into ``SHAPES``.
        u: Horizontal offset from the centre in radii, any array shape.
        v: Vertical offset, same shape.
    """
    return _SHAPES[shape](u, v)


def blend(pattern: int, x: Field, y: Field, period: float, phase: float) -> Field:
    """Share of an object's second colour at points, 0 or 1.

    Args:
        pattern: Index into ``PATTERNS``.
        x: Coordinate across the stripes, pixels.
        y: Coordinate along the stripes, pixels.
        period: Pixels.
        phase: Radians.
    """
    a, b = (2 * np.pi * axis / period + phase for axis in (x, y))
    return _PATTERNS[pattern](a, b).astype(np.float64)


def texture(scene: int, x: Field, y: Field, scale: float, phase: float) -> Field:
    """Share of a background's second colour at points, in [0, 1].

    Args:
        scene: Index into ``SCENES``.
        x: Pixels.
        y: Pixels.
        scale: Coarseness, 1 is normal.
        phase: Radians.
    """
    return _TEXTURES[scene](x / scale, y / scale, phase).astype(np.float64)


def _square_wave(angle: Field) -> NDArray[np.bool_]:
    return np.sin(angle) > 0


_SHAPES: tuple[Callable[[Field, Field], NDArray[np.bool_]], ...] = (
    lambda u, v: np.hypot(u, v) < 1,
    lambda u, v: np.maximum(abs(u), abs(v)) < 0.85,
    lambda u, v: (v > -0.8) & (v < 1 - 1.6 * abs(u)),
    lambda u, v: abs(np.hypot(u, v) - 0.75) < 0.25,
    lambda u, v: (np.minimum(abs(u), abs(v)) < 0.36) & (np.maximum(abs(u), abs(v)) < 1),
    lambda u, v: abs(u) + abs(v) < 1.1,
)
_PATTERNS: tuple[Callable[[Field, Field], NDArray], ...] = (
    lambda a, b: 0.4 + 0.4 * np.sin(a / 3),
    lambda a, b: _square_wave(a),
    lambda a, b: _square_wave(a) ^ _square_wave(b),
    lambda a, b: np.cos(a) + np.cos(b) > 0.7,
)


def _brick(x: Field, y: Field, phase: float) -> NDArray[np.bool_]:
    row = np.floor(y / 7 + phase)
    return ((y / 7 + phase) % 1 < 0.18) | ((x / 14 + row % 2 / 2) % 1 < 0.1)


_TEXTURES: tuple[Callable[[Field, Field, float], NDArray], ...] = (
    lambda x, y, p: 0.5 + 0.5 * np.sin(1.3 * x + 2 * np.sin(0.25 * y + p)),
    lambda x, y, p: 0.5 + 0.5 * np.sin(0.8 * y + 1.5 * np.sin(0.12 * x + p)),
    lambda x, y, p: (
        0.5 + 0.25 * np.sin(0.9 * x + p) * np.sin(1.1 * y) + 0.25 * np.sin(0.5 * (x + y))
    ),
    _brick,
    lambda x, y, p: np.sin(0.35 * x + p) + np.sin(0.3 * y + 2 * p) > 0.4,
    lambda x, y, p: np.sin(0.7 * x + p) * np.sin(0.7 * y + 1.7 * p) > 0.75,
)
