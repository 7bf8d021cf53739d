"""A picture of the microworld: images, their masks and captions side by side."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from .scene import Microworld, Scene
from .vocabulary import COLOURS

COLUMNS = 6
SIDE = 192
LINE = 14
# Letters of the default font that fit below a picture.
LETTERS = 31


def contact_sheet(split: str = 'val', seed: int = 0) -> Image.Image:
    """Draw six dense views with their masks, and six pre-training views with their captions.

    Args:
        split: Split of the dense views; the pre-training views are those of ``pretrain``.
        seed: Seed of the world's images.
    """
    dense = Microworld(split, 'dense', seed)
    pairs = Microworld('pretrain', 'pretrain', seed)
    sheet = Image.new('RGB', (COLUMNS * SIDE, 3 * SIDE + 3 * LINE), 'white')
    write = ImageDraw.Draw(sheet).text
    for column in range(COLUMNS):
        left, scene, pair = column * SIDE, dense[column], pairs[column]
        _paste(sheet, scene.image, left, 0)
        _paste(sheet, _mask_colours(scene), left, SIDE)
        _paste(sheet, pair.image, left, 2 * SIDE)
        for line, text in enumerate(_lines(pair.caption)[:3]):
            write((left + 3, 3 * SIDE + line * LINE), text, fill='black')
    return sheet


def _paste(sheet: Image.Image, pixels: NDArray[np.uint8], left: int, top: int) -> None:
    picture = Image.fromarray(pixels).resize((SIDE - 4, SIDE - 4), Image.Resampling.NEAREST)
    sheet.paste(picture, (left + 2, top + 2))


def _mask_colours(scene: Scene) -> NDArray[np.uint8]:
    """Objects by number, background dark grey."""
    palette = np.array([[0.2] * 3, *COLOURS.values()])
    return (255 * palette[scene.instances]).astype(np.uint8)


def _lines(text: str) -> list[str]:
    lines = ['']
    for word in text.split():
        if len(lines[-1]) + len(word) >= LETTERS:
            lines.append('')
        lines[-1] = f'{lines[-1]} {word}'.strip()
    return lines
