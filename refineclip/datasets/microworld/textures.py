"""Textures of the microworld's places as functions of coordinates."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Field = NDArray[np.float32]


def texture(scene: str, x: Field, y: Field, scale: float, phase: float) -> Field:
    """Share of a place's second colour at points, in [0, 1].

    Args:
        scene: One of ``SCENES``.
        x: Pixels, any array shape.
        y: Pixels, same shape.
        scale: Coarseness, 1 is normal.
        phase: Radians.
    """
    return _TEXTURES[scene](x / scale, y / scale, phase).astype(np.float32)


def _waves(x: Field, y: Field, p: float) -> Field:
    return 0.5 + 0.5 * np.sin(0.7 * y + 1.6 * np.sin(0.16 * x + p))


def _blades(x: Field, y: Field, p: float) -> Field:
    blades = np.sin(1.4 * x + 2 * np.sin(0.3 * y + p))
    return 0.5 + 0.3 * blades + 0.2 * np.sin(0.11 * x + p) * np.sin(0.13 * y)


def _dunes(x: Field, y: Field, p: float) -> Field:
    return 0.5 + 0.5 * np.sin(0.35 * y + 0.25 * x + np.sin(0.12 * x + p))


def _clouds(x: Field, y: Field, p: float) -> Field:
    clouds = np.sin(0.1 * x + p) + np.sin(0.13 * y + 2 * p) + np.sin(0.08 * (x - y))
    return (0.5 + 0.25 * clouds).clip(0, 1)


def _paving(x: Field, y: Field, p: float) -> Field:
    row = np.floor(y / 6 + p)
    joints = ((y / 6 + p) % 1 < 0.2) | ((x / 11 + row % 2 / 2) % 1 < 0.12)
    return joints.astype(np.float32)


def _drifts(x: Field, y: Field, p: float) -> Field:
    return 0.5 + 0.5 * np.tanh(3 * np.sin(0.14 * y + 1.2 * np.sin(0.07 * x + p)))


_TEXTURES: dict[str, Callable[[Field, Field, float], Field]] = {
    'sea': _waves,
    'meadow': _blades,
    'sand': _dunes,
    'night': _clouds,
    'street': _paving,
    'snow': _drifts,
}
