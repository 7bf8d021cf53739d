"""What exists in the microworld: kinds of objects, backgrounds, and which of them have names."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

HUES = ('red', 'orange', 'yellow', 'green', 'cyan', 'blue', 'purple', 'pink')
# RGB in [0, 1].
HUE_COLOURS = np.array(
    [
        [0.85, 0.15, 0.15],
        [0.95, 0.55, 0.10],
        [0.90, 0.85, 0.15],
        [0.15, 0.70, 0.20],
        [0.10, 0.75, 0.75],
        [0.15, 0.30, 0.90],
        [0.55, 0.20, 0.75],
        [0.95, 0.50, 0.70],
    ]
)
PATTERNS = ('shaded', 'striped', 'checked', 'dotted')
SHAPES = ('disc', 'square', 'triangle', 'ring', 'cross', 'diamond')

NAMES = (
    *('dax', 'wug', 'blick', 'fep', 'toma', 'gorp', 'zib', 'kiv'),
    *('lorp', 'mib', 'nax', 'pim', 'rell', 'sool', 'tuk', 'vash'),
)
NAMED_KINDS = len(NAMES)
# Held out of the training of detectors and segmentors: every fourth, so that all hues are in both.
NOVEL_NAMES = NAMES[3::4]


@dataclass(frozen=True)
class Kind:
    """A kind of object. Three kinds share each hue; they differ in pattern and shape.

    Attributes:
        name: Its noun; kinds without one are called ``unnamed-<hue>``, which no caption says.
        hue: Index into ``HUES`` of its first colour; the second is one of the background's.
        pattern: Index into ``PATTERNS``.
        shape: Index into ``SHAPES``.
    """

    name: str
    hue: int
    pattern: int
    shape: int


def _kind(index: int) -> Kind:
    row, hue = divmod(index, len(HUES))
    name = NAMES[index] if index < NAMED_KINDS else f'unnamed-{HUES[hue]}'
    return Kind(name, hue, (hue + hue // 4 + row) % len(PATTERNS), (hue + 2 * row) % len(SHAPES))


KINDS = tuple(_kind(index) for index in range(3 * len(HUES)))

SCENES = ('grass', 'water', 'sand', 'brick', 'snow', 'night')
# Two hues of each background, out of those of the objects: colour does not tell one from another.
SCENE_HUES = ((3, 2), (4, 5), (1, 2), (0, 7), (7, 4), (5, 6))
# Objects that a background mostly shows: what makes tokens of a CLIP take on their context.
HOME_KINDS = np.stack(
    [np.random.default_rng((7, scene)).permutation(len(KINDS))[:8] for scene in range(len(SCENES))]
)
HOME_SHARE = 0.8

# What stands for each named class in a caption, by the class names of the data set.
PROMPTS = {name: f'a {name}' for name in NAMES} | {name: f'on {name}' for name in SCENES}

WORDS = ('a', 'on', 'and', *NAMES, *SCENES)
