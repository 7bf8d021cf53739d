"""Hostile images."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from refineclip.datasets.image_io import BadImageError, read_image

from .spoiling import Generator, pick, spoil
from .verdicts import Case

_FORMATS = ('JPEG', 'PNG', 'WEBP', 'BMP', 'TIFF', 'PPM', 'GIF')
_ORIENTATION = 274
_HUGE = b'\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x7f\xff\xff\xff\x7f\xff\xff\xff\x08\x02\x00\x00\x00'


def image_case(rng: Generator, folder: Path, index: int) -> Case:
    """An image of any format, mode and orientation, spoilt or not, under any suffix."""
    kind, size = pick(rng, _FORMATS), tuple(int(n) for n in rng.integers(32, 90, 2))
    mode = pick(rng, ['RGB', 'RGB', 'L', 'P', '1', 'CMYK', 'RGBA', 'LA', 'I;16'])
    orientation = int(rng.integers(1, 9))
    content = _encode(rng, size, kind, mode, orientation)
    if content is None:
        kind, mode = 'PNG', 'RGB'
        content = _encode(rng, size, kind, mode, orientation)
    assert content is not None
    way, spoilt = spoil(content, rng)
    if rng.random() < 0.03:
        way, spoilt = 'a size of 2 ** 31', _HUGE
    path = folder / f'{index}{pick(rng, [".jpg", ".png", ".webp", ".tif"])}'
    path.write_bytes(spoilt)
    return Case(
        f'{kind} {mode} {way}', lambda: read_image(path), _check(way, content, folder / f'{index}_')
    )


def _encode(
    rng: Generator, size: tuple[int, ...], kind: str, mode: str, orientation: int
) -> bytes | None:
    pixels = rng.integers(0, 256, (6, 7, 3), dtype=np.uint8)
    image: Any = Image.fromarray(pixels).resize(size)
    try:
        image = image.convert('L').convert('I;16') if mode == 'I;16' else image.convert(mode)
        exif = Image.Exif()
        exif[_ORIENTATION] = orientation
        file = BytesIO()
        image.save(file, kind, exif=exif)
    except (OSError, KeyError, ValueError):  # a mode that the format does not have
        return None
    return file.getvalue()


def _check(way: str, content: bytes, whole: Path) -> Callable[[Any], str]:
    def wrong(found: Image.Image) -> str:
        if found.mode != 'RGB' or min(found.size) < 32:
            return f'read as {found.mode} of {found.size}'
        if way not in ('whole', 'cut'):
            return ''
        whole.write_bytes(content)
        try:
            expected = read_image(whole)
        except BadImageError as error:
            return f'the whole file is refused: {error}'
        return '' if found.tobytes() == expected.tobytes() else f'other pixels than the {way} file'

    return wrong
