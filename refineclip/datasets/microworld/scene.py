"""The generator: an image with exact masks, as a pure function of seed, split and index."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from .captions import caption
from .outlines import OUTLINES
from .textures import Field, texture
from .vocabulary import COLOURS, HOME_KINDS, HOME_SHARE, KINDS, SCENE_TONES, SCENES

VIEWS = {'pretrain': 64, 'dense': 128}
# Things are drawn so many times larger and averaged, for smooth edges.
OVERSAMPLING = 3
COLOUR_JITTER = 0.06
# Share of things in three colours that are none of their kind's: outline alone tells what they are.
ANY_COLOURS = 0.1
# Width and height of a thing against its radius.
STRETCH = (0.8, 1.2)
LARGEST_TURN = 0.25
TEXTURE_SCALE = (0.8, 1.8)
NOISE = 0.015
# Bands of shadow across an image, and how much light they take or add.
SHADOWS = (1.0, 2.0)
SHADOW_DEPTH = 0.15
# Least visible pixels of a thing that a caption may name.
NAMEABLE_PIXELS = 20


@dataclass(frozen=True)
class Scene:
    """One drawn image and all that is known of it.

    Attributes:
        image: (S, S, 3) uint8 RGB.
        instances: (S, S) uint8; 0 is background, i + 1 the thing i, later ones cover earlier ones.
        kinds: Kind of each thing, index into ``KINDS``; some may be covered wholly.
        scene: Place, index into ``SCENES``.
        caption: Names most of the named things, some colours, and the place half the time.
    """

    image: NDArray[np.uint8]
    instances: NDArray[np.uint8]
    kinds: tuple[int, ...]
    scene: int
    caption: str


class Microworld:
    """The images of one split, drawn on demand.

    A place in two colours; things from parts in three, which come in several colour schemes, so
    that outline and parts make the kind; specks, a lighting gradient, bands of shadow, a colour
    cast and noise. Places and things share colours. A place shows its eight home kinds four times
    out of five, and a third of the kinds is never named: so captions leave tokens of a CLIP
    contaminated by context, and blind for what has no word.

    Args:
        split: Any name; together with the seed it decides every image.
        view: ``'pretrain'``: 64 px, one to four things of any size, for captions; ``'dense'``:
            128 px, three to five things, for regions and tokens.
        seed: Seed of the world's images. Kinds, names and homes are fixed.

    Raises:
        ValueError: On an unknown view.
    """

    def __init__(self, split: str, view: str = 'dense', seed: int = 0) -> None:
        if view not in VIEWS:
            raise ValueError(f'view: expected one of {tuple(VIEWS)}, got {view!r}')
        self.split, self.view, self.seed = split, view, seed
        self.size = VIEWS[view]

    def __getitem__(self, index: int) -> Scene:
        """Draw image ``index``, any integer >= 0."""
        rng = np.random.default_rng((self.seed, zlib.crc32(self.split.encode()), index))
        scene = int(rng.integers(len(SCENES)))
        drawing = _Drawing(self._background(rng, scene))
        kinds, colours = [], []
        for radius, centre in zip(*self._places(rng), strict=True):
            home = rng.random() < HOME_SHARE
            kinds.append(int(rng.choice(HOME_KINDS[scene] if home else len(KINDS))))
            colours.append(drawing.draw_thing(rng, kinds[-1], radius, centre, len(kinds)))
        image, instances = drawing.finish()
        self._scatter_specks(rng, image)
        pixels = np.bincount(instances.ravel(), minlength=len(kinds) + 1)[1:]
        seen = np.flatnonzero(pixels >= NAMEABLE_PIXELS)
        return Scene(
            image=self._light(rng, image),
            instances=instances,
            kinds=tuple(kinds),
            scene=scene,
            caption=caption(rng, [kinds[i] for i in seen], [colours[i] for i in seen], scene),
        )

    def _background(self, rng: np.random.Generator, scene: int) -> Field:
        y, x = np.mgrid[: self.size, : self.size].astype(np.float32) + np.float32(0.5)
        angle = rng.uniform(-0.25, 0.25)
        x, y = np.cos(angle) * x + np.sin(angle) * y, np.cos(angle) * y - np.sin(angle) * x
        if rng.random() < 0.5:
            x = -x
        scale, phase = rng.uniform(*TEXTURE_SCALE), rng.uniform(0, 2 * np.pi)
        share = texture(SCENES[scene], x, y, scale, phase)[..., None]
        tones = SCENE_TONES[SCENES[scene]]
        first, second = (_colour(rng, name) for name in tones[int(rng.integers(len(tones)))])
        # Quieter than the things: the second tone is on its way to its colour only.
        second = first + np.float32(rng.uniform(0.35, 0.7)) * (second - first)
        return first * (1 - share) + second * share

    def _places(self, rng: np.random.Generator) -> tuple[Field, list[Field]]:
        """Radii and centres of the things: each is put farthest from those before, of 12 tries."""
        if self.view == 'pretrain':
            count = 1 + int(rng.choice(4, p=[0.45, 0.30, 0.15, 0.10]))
            low, high = 8.0, 36 / np.sqrt(count)
        else:
            count = int(rng.integers(3, 6))
            low, high = 14.0, min(44 / np.sqrt(count), 26.0)
        radii = rng.uniform(low, high, count)
        centres: list[Field] = []
        for radius in radii:
            edge = min(0.8 * radius, 0.45 * self.size)
            tries = rng.uniform(edge, self.size - edge, (12, 2))
            gaps = [np.linalg.norm(tries - centre, axis=1) for centre in centres]
            centres.append(tries[np.argmax(np.min(gaps, axis=0))] if gaps else tries[0])
        return radii.astype(np.float32), centres

    def _scatter_specks(self, rng: np.random.Generator, image: Field) -> None:
        """Clutter of any colour, on things and places alike; it belongs to what it lies on."""
        count = int(rng.integers(3, 8)) * (self.size // 64) ** 2
        palette = np.array(list(COLOURS.values()), dtype=np.float32)
        centres = rng.uniform(0, self.size, (count, 2))
        radii, colours = rng.uniform(0.8, 1.6, count), rng.integers(len(palette), size=count)
        reach = np.arange(-2, 3)
        for (cx, cy), radius, colour in zip(centres, radii, colours, strict=True):
            y = (int(cy) + reach).clip(0, self.size - 1)[:, None]
            x = (int(cx) + reach).clip(0, self.size - 1)[None]
            near = (x + 0.5 - cx) ** 2 + (y + 0.5 - cy) ** 2 < radius**2
            rows, columns = np.broadcast_arrays(y, x)
            image[rows[near], columns[near]] = palette[colour]

    def _light(self, rng: np.random.Generator, image: Field) -> NDArray[np.uint8]:
        """A lighting gradient, bands of shadow, a colour cast and pixel noise."""
        angle, strength = rng.uniform(0, 2 * np.pi), np.float32(rng.uniform(0.2, 0.6))
        axis = (np.arange(self.size, dtype=np.float32) + np.float32(0.5)) / self.size - 0.5
        cos, sin = np.float32(np.cos(angle)), np.float32(np.sin(angle))
        along = sin * axis[:, None] + cos * axis[None]
        across = cos * axis[:, None] - sin * axis[None]
        waves, phase = np.float32(2 * np.pi * rng.uniform(*SHADOWS)), rng.uniform(0, 2 * np.pi)
        shadow = np.sin(waves * across + np.float32(phase) + 2 * along)
        light = 1 + strength * along + np.float32(SHADOW_DEPTH) * shadow
        lit = image * light[..., None] * (1 + rng.uniform(-0.1, 0.1, 3)).astype(np.float32)
        noisy = lit + np.float32(NOISE) * rng.standard_normal(image.shape, dtype=np.float32)
        return (255 * noisy.clip(0, 1)).round().astype(np.uint8)


class _Drawing:
    """A canvas and a map of numbers, both ``OVERSAMPLING`` times the image."""

    def __init__(self, background: Field) -> None:
        self.size = len(background)
        large = (OVERSAMPLING * self.size,) * 2
        pixels = (255 * background.clip(0, 1)).astype(np.uint8)
        self.canvas = Image.fromarray(pixels).resize(large, Image.Resampling.NEAREST)
        self.numbers = Image.new('L', large)

    def draw_thing(
        self, rng: np.random.Generator, kind: int, radius: float, centre: Field, number: int
    ) -> str:
        """Draw one, and return its main colour's name."""
        scheme = KINDS[kind].schemes[int(rng.integers(len(KINDS[kind].schemes)))]
        if rng.random() < ANY_COLOURS:
            first, second, third = rng.choice(list(COLOURS), 3, replace=False)
            scheme = (str(first), str(second), str(third))
        fills = [tuple((255 * _colour(rng, name)).astype(int).tolist()) for name in scheme]
        radii = radius * rng.uniform(*STRETCH, 2)
        angle, mirrored = rng.uniform(-LARGEST_TURN, LARGEST_TURN), rng.random() < 0.5
        turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        turn = radii[:, None] * turn
        if mirrored:
            turn[0] *= -1
        draw, draw_number = ImageDraw.Draw(self.canvas), ImageDraw.Draw(self.numbers)
        for part in OUTLINES[KINDS[kind].name]:
            corners = (OVERSAMPLING * (part.points @ turn + centre)).ravel().tolist()
            draw.polygon(corners, fill=fills[part.colour])
            draw_number.polygon(corners, fill=number)
        return scheme[0]

    def finish(self) -> tuple[Field, NDArray[np.uint8]]:
        """Pixels (S, S, 3) in [0, 1] and numbers (S, S)."""
        small = self.canvas.reduce(OVERSAMPLING)
        numbers = self.numbers.resize((self.size,) * 2, Image.Resampling.NEAREST)
        pixels = np.asarray(small).astype(np.float32) / np.float32(255)
        return pixels, np.array(numbers, dtype=np.uint8)


def _colour(rng: np.random.Generator, name: str) -> Field:
    jitter = rng.uniform(-COLOUR_JITTER, COLOUR_JITTER, 3)
    return (np.array(COLOURS[name]) + jitter).clip(0, 1).astype(np.float32)
