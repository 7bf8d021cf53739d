"""Outlines of the microworld's things: parts, each a polygon in one of the thing's colours.

Frame: the square [-1, 1]², x to the right, y down. Later parts cover earlier ones.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

CORNERS = 25


@dataclass(frozen=True)
class Part:
    """A filled polygon.

    Attributes:
        colour: Which of the colours of its thing's scheme, 0 to 2.
        points: Corners (N, 2), x and y in the square of the thing.
    """

    colour: int
    points: NDArray[np.float32]


def polygon(colour: int, *points: tuple[float, float]) -> Part:
    """Part with these corners."""
    return Part(colour, np.array(points, dtype=np.float32))


def bar(colour: int, left: float, top: float, right: float, bottom: float) -> Part:
    """Upright rectangle."""
    return polygon(colour, (left, top), (right, top), (right, bottom), (left, bottom))


def arc(
    centre: tuple[float, float], radii: tuple[float, float], turns: tuple[float, float] = (0, 1)
) -> NDArray[np.float32]:
    """Points (25, 2) of an ellipse between two shares of a turn, clockwise from the right."""
    angle = 2 * np.pi * np.linspace(*turns, CORNERS)
    rim = np.stack([np.cos(angle), np.sin(angle)], axis=1) * radii + centre
    return rim.astype(np.float32)


def ellipse(
    colour: int,
    centre: tuple[float, float],
    radii: tuple[float, float],
    turns: tuple[float, float] = (0, 1),
    hole: float = 0,
) -> Part:
    """Ellipse or a part of one; with a hole (its share of the radii), a ring."""
    rim = arc(centre, radii, turns)
    if not hole:
        return Part(colour, rim)
    inner = arc(centre, (hole * radii[0], hole * radii[1]), turns)
    return Part(colour, np.concatenate([rim, inner[::-1]]))


def star(colour: int, outer: float, inner: float, tips: int = 5) -> Part:
    """Star with one tip up."""
    angle = np.pi * (np.arange(2 * tips) / tips - 0.5)
    reach = np.where(np.arange(2 * tips) % 2, inner, outer)
    points = np.stack([np.cos(angle), np.sin(angle)], axis=1) * reach[:, None]
    return Part(colour, points.astype(np.float32))


def _petals() -> list[Part]:
    angles = 2 * np.pi * np.arange(6) / 6
    return [
        ellipse(0, (0.38 * float(np.cos(a)), 0.38 * float(np.sin(a)) - 0.34), (0.25, 0.25))
        for a in angles
    ]


_CRESCENT = Part(
    0,
    np.concatenate(
        [arc((0, 0), (0.92, 0.92), (0.15, 0.85)), arc((0.38, 0), (0.7, 0.74), (0.82, 0.18))]
    ),
)

OUTLINES: dict[str, tuple[Part, ...]] = {
    'fish': (
        polygon(1, (0.35, 0), (0.98, -0.6), (0.8, 0), (0.98, 0.6)),
        polygon(1, (-0.25, -0.4), (0.1, -0.75), (0.25, -0.35)),
        ellipse(0, (-0.22, 0), (0.74, 0.48)),
        bar(1, -0.3, -0.44, -0.12, 0.44),
        ellipse(2, (-0.62, -0.12), (0.11, 0.11)),
    ),
    'boat': (
        bar(2, -0.08, -0.95, 0.06, 0.4),
        polygon(1, (0.12, -0.9), (0.85, 0.2), (0.12, 0.2)),
        polygon(2, (-0.14, -0.6), (-0.14, 0.2), (-0.7, 0.2)),
        polygon(0, (-0.95, 0.32), (0.95, 0.32), (0.6, 0.9), (-0.6, 0.9)),
        polygon(1, (-0.85, 0.48), (0.85, 0.48), (0.78, 0.6), (-0.78, 0.6)),
    ),
    'house': (
        bar(2, 0.36, -0.85, 0.58, -0.2),
        bar(0, -0.68, -0.1, 0.68, 0.92),
        polygon(1, (-0.95, -0.08), (0, -0.92), (0.95, -0.08)),
        bar(2, -0.14, 0.35, 0.16, 0.92),
        bar(1, -0.54, 0.12, -0.28, 0.42),
        bar(1, 0.3, 0.12, 0.56, 0.42),
    ),
    'tree': (
        bar(1, -0.14, 0.4, 0.14, 0.97),
        polygon(0, (0, -0.35), (0.8, 0.6), (-0.8, 0.6)),
        polygon(2, (0, -0.6), (0.62, 0.15), (-0.62, 0.15)),
        polygon(0, (0, -0.97), (0.46, -0.3), (-0.46, -0.3)),
    ),
    'car': (
        polygon(0, (-0.6, -0.1), (-0.32, -0.55), (0.36, -0.55), (0.66, -0.1)),
        polygon(1, (-0.42, -0.1), (-0.24, -0.42), (-0.02, -0.42), (-0.02, -0.1)),
        polygon(1, (0.08, -0.1), (0.08, -0.42), (0.3, -0.42), (0.48, -0.1)),
        polygon(0, (-0.97, 0.38), (-0.92, -0.05), (0.85, -0.12), (0.97, 0.1), (0.97, 0.38)),
        ellipse(2, (-0.52, 0.4), (0.26, 0.26)),
        ellipse(2, (0.54, 0.4), (0.26, 0.26)),
        ellipse(1, (-0.52, 0.4), (0.11, 0.11)),
        ellipse(1, (0.54, 0.4), (0.11, 0.11)),
    ),
    'cup': (
        ellipse(1, (0.52, 0.05), (0.42, 0.42), hole=0.58),
        polygon(0, (-0.85, -0.7), (0.52, -0.7), (0.36, 0.85), (-0.68, 0.85)),
        polygon(1, (-0.81, -0.3), (0.48, -0.3), (0.45, 0), (-0.78, 0)),
        ellipse(2, (-0.16, -0.68), (0.68, 0.16)),
    ),
    'flower': (
        bar(2, -0.07, 0, 0.07, 0.97),
        ellipse(2, (0.3, 0.62), (0.3, 0.13)),
        *_petals(),
        ellipse(1, (0, -0.34), (0.24, 0.24)),
    ),
    'mushroom': (
        polygon(1, (-0.24, 0), (0.24, 0), (0.34, 0.92), (-0.34, 0.92)),
        ellipse(0, (0, 0.05), (0.95, 0.95), (0.5, 1)),
        ellipse(2, (-0.5, -0.25), (0.17, 0.15)),
        ellipse(2, (0.04, -0.58), (0.19, 0.17)),
        ellipse(2, (0.52, -0.2), (0.15, 0.13)),
    ),
    'bird': (
        polygon(1, (-0.98, -0.42), (-0.7, -0.58), (-0.7, -0.28)),
        polygon(0, (0.4, 0.1), (0.98, -0.35), (0.9, 0.3), (0.5, 0.45)),
        ellipse(0, (0.05, 0.22), (0.66, 0.5)),
        ellipse(0, (-0.45, -0.38), (0.36, 0.36)),
        polygon(2, (-0.2, 0.05), (0.55, 0.02), (0.1, 0.55)),
        ellipse(2, (-0.54, -0.46), (0.1, 0.1)),
        bar(1, -0.08, 0.68, 0, 0.97),
        bar(1, 0.18, 0.68, 0.26, 0.97),
    ),
    'kite': (
        polygon(
            2, (-0.03, 0.4), (0.05, 0.4), (-0.2, 0.72), (0.1, 0.97), (-0.02, 0.97), (-0.3, 0.72)
        ),
        polygon(0, (0, -0.97), (0.7, -0.3), (0, 0.5)),
        polygon(1, (0, -0.97), (-0.7, -0.3), (0, 0.5)),
        polygon(1, (0.35, -0.62), (0.7, -0.3), (0, -0.3)),
        polygon(0, (-0.35, -0.62), (-0.7, -0.3), (0, -0.3)),
    ),
    'lamp': (
        bar(1, -0.08, -0.1, 0.08, 0.75),
        ellipse(2, (0, 0.95), (0.5, 0.3), (0.5, 1)),
        polygon(0, (-0.36, -0.92), (0.36, -0.92), (0.76, -0.1), (-0.76, -0.1)),
        polygon(2, (-0.7, -0.24), (0.7, -0.24), (0.76, -0.1), (-0.76, -0.1)),
    ),
    'key': (
        ellipse(0, (-0.55, 0), (0.42, 0.42), hole=0.45),
        bar(0, -0.18, -0.11, 0.97, 0.11),
        bar(1, 0.42, 0.11, 0.58, 0.42),
        bar(1, 0.76, 0.11, 0.94, 0.5),
    ),
    'hat': (
        ellipse(0, (0, 0.55), (0.97, 0.26)),
        polygon(0, (-0.54, -0.72), (0.54, -0.72), (0.5, 0.5), (-0.5, 0.5)),
        polygon(1, (-0.51, 0.08), (0.51, 0.08), (0.5, 0.46), (-0.5, 0.46)),
        ellipse(2, (0, -0.72), (0.54, 0.13)),
    ),
    'star': (
        star(0, 1, 0.42),
        star(1, 0.62, 0.28),
        ellipse(2, (0, 0), (0.16, 0.16)),
    ),
    'cactus': (
        bar(0, -0.78, -0.4, -0.54, 0.15),
        bar(0, -0.78, 0, 0, 0.2),
        bar(0, 0.52, -0.62, 0.76, 0),
        bar(0, 0, -0.18, 0.76, 0.02),
        ellipse(0, (0, -0.66), (0.22, 0.3)),
        bar(0, -0.22, -0.66, 0.22, 0.5),
        ellipse(2, (0, -0.86), (0.15, 0.13)),
        polygon(1, (-0.5, 0.42), (0.5, 0.42), (0.36, 0.97), (-0.36, 0.97)),
    ),
    'bell': (
        ellipse(2, (0, -0.82), (0.16, 0.16)),
        ellipse(1, (0, 0.72), (0.22, 0.24)),
        ellipse(0, (0, -0.1), (0.58, 0.68), (0.5, 1)),
        polygon(0, (-0.58, -0.12), (0.58, -0.12), (0.92, 0.68), (-0.92, 0.68)),
        polygon(1, (-0.68, 0.15), (0.68, 0.15), (0.78, 0.36), (-0.78, 0.36)),
    ),
    'umbrella': (
        bar(2, -0.06, -0.2, 0.06, 0.8),
        ellipse(2, (0.16, 0.78), (0.22, 0.2), (0, 0.5), hole=0.45),
        ellipse(0, (0, 0), (0.97, 0.9), (0.5, 1)),
        ellipse(1, (0, 0), (0.42, 0.9), (0.5, 1)),
    ),
    'snail': (
        polygon(
            0, (-0.97, 0.35), (-0.7, 0.2), (-0.4, 0.55), (0.95, 0.62), (0.8, 0.85), (-0.8, 0.85)
        ),
        bar(0, -0.95, -0.1, -0.87, 0.4),
        bar(0, -0.76, -0.1, -0.68, 0.4),
        ellipse(1, (0.2, 0), (0.62, 0.62)),
        ellipse(2, (0.2, 0), (0.42, 0.42)),
        ellipse(1, (0.2, 0), (0.2, 0.2)),
    ),
    'rocket': (
        polygon(1, (-0.3, 0.2), (-0.75, 0.85), (-0.3, 0.72)),
        polygon(1, (0.3, 0.2), (0.75, 0.85), (0.3, 0.72)),
        polygon(2, (-0.2, 0.7), (0.2, 0.7), (0, 0.98)),
        bar(0, -0.32, -0.4, 0.32, 0.72),
        polygon(1, (-0.32, -0.4), (0, -0.97), (0.32, -0.4)),
        ellipse(2, (0, -0.12), (0.18, 0.18)),
    ),
    'balloon': (
        polygon(2, (-0.02, 0.4), (0.06, 0.4), (-0.1, 0.7), (0.08, 0.97), (0, 0.97), (-0.18, 0.7)),
        polygon(0, (0, 0.36), (0.14, 0.55), (-0.14, 0.55)),
        ellipse(0, (0, -0.28), (0.62, 0.7)),
        ellipse(1, (-0.2, -0.5), (0.2, 0.26)),
    ),
    'chair': (
        bar(0, -0.6, -0.95, -0.4, 0.95),
        bar(1, -0.4, -0.8, -0.28, 0.1),
        bar(2, 0.4, 0.2, 0.58, 0.95),
        bar(0, -0.6, 0.08, 0.66, 0.36),
        bar(1, -0.4, -0.04, 0.66, 0.12),
    ),
    'apple': (
        ellipse(0, (-0.3, 0.2), (0.56, 0.68)),
        ellipse(0, (0.3, 0.2), (0.56, 0.68)),
        bar(1, -0.07, -0.9, 0.07, -0.2),
        ellipse(2, (0.36, -0.7), (0.32, 0.15)),
    ),
    'moon': (
        _CRESCENT,
        ellipse(1, (-0.6, -0.25), (0.15, 0.15)),
        ellipse(2, (-0.52, 0.3), (0.12, 0.12)),
    ),
    'anchor': (
        ellipse(1, (0, -0.74), (0.22, 0.22), hole=0.45),
        bar(2, -0.48, -0.42, 0.48, -0.24),
        bar(0, -0.1, -0.56, 0.1, 0.85),
        ellipse(0, (0, 0.1), (0.86, 0.84), (0.02, 0.48), hole=0.72),
        polygon(1, (-0.98, 0.25), (-0.6, 0), (-0.56, 0.4)),
        polygon(1, (0.98, 0.25), (0.6, 0), (0.56, 0.4)),
    ),
}
