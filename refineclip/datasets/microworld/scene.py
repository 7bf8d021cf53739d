"""The generator: an image with exact masks, as a pure function of seed, split and index."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from .painting import Field, blend, inside, texture
from .vocabulary import (
    HOME_KINDS,
    HOME_SHARE,
    HUE_COLOURS,
    KINDS,
    NAMED_KINDS,
    SCENE_HUES,
    SCENES,
)

VIEWS = ('pretrain', 'dense')
COLOUR_JITTER = 0.15
NOISE = 0.03
# Bands of shadow across an image, and how much light they take or add.
SHADOWS = (1.0, 2.0)
SHADOW_DEPTH = 0.3
# Textures as coarse as a patch or coarser, so that a patch's mean colour is not the scene's.
TEXTURE_SCALE = (2.0, 4.0)
# Least visible pixels of an object that a caption may name.
NAMEABLE_PIXELS = 20


@dataclass(frozen=True)
class Scene:
    """One drawn image and all that is known of it.

    Attributes:
        image: (S, S, 3) uint8 RGB.
        instances: (S, S) uint8; 0 is background, i + 1 the object i, later ones cover earlier ones.
        kinds: Kind of each object, index into ``KINDS``; some may be covered wholly.
        scene: Background, index into ``SCENES``.
        caption: Names some of the named objects in any order, and the background half the time.
    """

    image: NDArray[np.uint8]
    instances: NDArray[np.uint8]
    kinds: tuple[int, ...]
    scene: int
    caption: str


class Microworld:
    """The images of one split, drawn on demand.

    A background texture in two hues, objects in a pattern of two, specks of any hue over
    everything, a lighting gradient, bands of shadow, a colour cast and noise. An object's second
    hue is one of the background's, so that mean colour hardly tells objects from background; the
    *name* of a kind stands for its first hue, pattern and shape together. A background shows its
    eight home kinds four times out of five, and a third of the kinds is never named: so captions
    leave tokens of a CLIP contaminated by context, and blind for what has no word.

    Args:
        split: Any name; together with the seed it decides every image.
        view: ``'pretrain'``: 64 px, one to four objects of any size, for captions; ``'dense'``:
            128 px, three to five objects, for regions and tokens.
        seed: Seed of the world's images. Kinds, names and homes are fixed.

    Raises:
        ValueError: On an unknown view.
    """

    def __init__(self, split: str, view: str = 'dense', seed: int = 0) -> None:
        if view not in VIEWS:
            raise ValueError(f'view: expected one of {VIEWS}, got {view!r}')
        self.split, self.view, self.seed = split, view, seed
        self.size = 64 if view == 'pretrain' else 128

    def __getitem__(self, index: int) -> Scene:
        """Draw image ``index``, any integer >= 0."""
        rng = np.random.default_rng((self.seed, zlib.crc32(self.split.encode()), index))
        scene = int(rng.integers(len(SCENES)))
        image = self._background(rng, scene)
        instances = np.zeros((self.size, self.size), dtype=np.uint8)
        kinds: list[int] = []
        for radius, centre in zip(*self._places(rng), strict=True):
            home = rng.random() < HOME_SHARE
            kind = int(rng.choice(HOME_KINDS[scene] if home else len(KINDS)))
            kinds.append(kind)
            self._draw_object(rng, image, instances, kind, radius, centre, len(kinds), scene)
        self._scatter_specks(rng, image)
        return Scene(
            image=self._light(rng, image),
            instances=instances,
            kinds=tuple(kinds),
            scene=scene,
            caption=_caption(rng, kinds, instances, scene),
        )

    def _background(self, rng: np.random.Generator, scene: int) -> Field:
        y, x = np.mgrid[: self.size, : self.size] + 0.5
        scale, phase = rng.uniform(*TEXTURE_SCALE), rng.uniform(0, 2 * np.pi)
        share = texture(scene, x, y, scale, phase)[..., None]
        first, second = (_colour(rng, hue) for hue in SCENE_HUES[scene])
        return first * (1 - share) + second * share

    def _places(self, rng: np.random.Generator) -> tuple[Field, list[Field]]:
        """Radii and centres of the objects: each is put farthest from those before, of 12 tries."""
        if self.view == 'pretrain':
            count = 1 + int(rng.choice(4, p=[0.45, 0.30, 0.15, 0.10]))
            low, high = 7.0, 30 * 1.15 / np.sqrt(count)
        else:
            count = int(rng.integers(3, 6))
            low, high = 13.0, 40 / np.sqrt(count)
        radii = rng.uniform(low, min(high, 26.0), count)
        centres: list[Field] = []
        for radius in radii:
            edge = min(0.8 * radius, 0.45 * self.size)
            tries = rng.uniform(edge, self.size - edge, (12, 2))
            gaps = [np.linalg.norm(tries - centre, axis=1) for centre in centres]
            centres.append(tries[np.argmax(np.min(gaps, axis=0))] if gaps else tries[0])
        return radii, centres

    def _draw_object(
        self,
        rng: np.random.Generator,
        image: Field,
        instances: NDArray[np.uint8],
        kind: int,
        radius: float,
        centre: Field,
        number: int,
        scene: int,
    ) -> None:
        look = KINDS[kind]
        low = np.maximum(np.floor(centre - 1.2 * radius), 0).astype(int)
        high = np.ceil(centre + 1.2 * radius).astype(int)
        window = np.s_[low[1] : high[1], low[0] : high[0]]
        height, width = instances[window].shape
        y, x = np.mgrid[low[1] : low[1] + height, low[0] : low[0] + width] + 0.5
        x, y = x - centre[0], y - centre[1]
        mask = inside(
            look.shape, *(axis / radius for axis in _turn(x, y, rng.uniform(-0.25, 0.25)))
        )
        across, along = _turn(x, y, rng.integers(2) * np.pi / 2 + rng.uniform(-0.3, 0.3))
        period = max(6.0, rng.uniform(0.5, 0.9) * radius)
        share = blend(look.pattern, across, along, period, rng.uniform(0, 2 * np.pi))[..., None]
        first, second = _colour(rng, look.hue), _colour(rng, int(rng.choice(SCENE_HUES[scene])))
        image[window][mask] = (first * (1 - share) + second * share)[mask]
        instances[window][mask] = number

    def _scatter_specks(self, rng: np.random.Generator, image: Field) -> None:
        """Clutter of any hue, on objects and background alike; it belongs to what it lies on."""
        count = int(rng.integers(6, 14)) * (self.size // 64) ** 2
        centres = rng.uniform(0, self.size, (count, 2))
        radii, hues = rng.uniform(1, 2.5, count), rng.integers(len(HUE_COLOURS), size=count)
        reach = np.arange(-3, 4)
        for (cx, cy), radius, hue in zip(centres, radii, hues, strict=True):
            y = (int(cy) + reach).clip(0, self.size - 1)[:, None]
            x = (int(cx) + reach).clip(0, self.size - 1)[None]
            near = (x + 0.5 - cx) ** 2 + (y + 0.5 - cy) ** 2 < radius**2
            rows, columns = np.broadcast_arrays(y, x)
            image[rows[near], columns[near]] = HUE_COLOURS[hue]

    def _light(self, rng: np.random.Generator, image: Field) -> NDArray[np.uint8]:
        """A lighting gradient, bands of shadow, a colour cast and pixel noise."""
        angle, strength = rng.uniform(0, 2 * np.pi), rng.uniform(0.3, 0.8)
        axis = (np.arange(self.size) + 0.5) / self.size - 0.5
        along = np.sin(angle) * axis[:, None] + np.cos(angle) * axis[None]
        across = np.cos(angle) * axis[:, None] - np.sin(angle) * axis[None]
        waves, phase = rng.uniform(*SHADOWS), rng.uniform(0, 2 * np.pi)
        shadow = np.sin(2 * np.pi * waves * across + phase + 2 * along)
        light = 1 + strength * along + SHADOW_DEPTH * shadow
        lit = image * light[..., None] * (1 + rng.uniform(-0.1, 0.1, 3))
        noisy = lit + NOISE * rng.standard_normal(image.shape, dtype=np.float32)
        return (255 * noisy.clip(0, 1)).round().astype(np.uint8)


def _colour(rng: np.random.Generator, hue: int) -> Field:
    return HUE_COLOURS[hue] + rng.uniform(-COLOUR_JITTER, COLOUR_JITTER, 3)


def _turn(x: Field, y: Field, angle: float) -> tuple[Field, Field]:
    cos, sin = np.cos(angle), np.sin(angle)
    return cos * x + sin * y, cos * y - sin * x


def _caption(
    rng: np.random.Generator, kinds: list[int], instances: NDArray[np.uint8], scene: int
) -> str:
    pixels = np.bincount(instances.ravel(), minlength=len(kinds) + 1)[1:]
    visible = [
        kind
        for kind, count in zip(kinds, pixels, strict=True)
        if kind < NAMED_KINDS and count >= NAMEABLE_PIXELS
    ]
    visible = [visible[position] for position in rng.permutation(len(visible))]
    named = [kind for kind in visible if rng.random() < 0.8] or visible[:1]
    text = ' and '.join(f'a {KINDS[kind].name}' for kind in named)
    return f'{text} on {SCENES[scene]}'.strip() if not named or rng.random() < 0.5 else text
