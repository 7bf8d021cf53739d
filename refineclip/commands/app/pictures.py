"""What a session looks at: samples and uploads, bounded before they are decoded."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from refineclip.datasets.image_io import BadImageError, read_image, read_image_size
from refineclip.visualization.pictures import Picture, fit_picture

MAX_BYTES = 20 * 2**20
MAX_PIXELS = 40_000_000
# Detectors see no more than this; a session keeps no more.
MAX_SIDE = 2048


@dataclass(frozen=True)
class Shown:
    """One image of a session.

    Attributes:
        title: Its file's name, or the caption of a sample.
        picture: (H, W, 3) uint8, sides multiples of the patch: what encoders see.
        whole: (H, W, 3) uint8 at its own size, up to ``MAX_SIDE``: what detectors see.
        key: Tells pictures apart by their pixels.
        sample: Its place in the gallery; None of an upload.
    """

    title: str
    picture: Picture
    whole: Picture
    key: str
    sample: int | None = None


@dataclass(frozen=True)
class Session:
    """What one visitor looks at.

    Attributes:
        images: One or two images.
        point: x and y in [0, 1] of the token.
        source: Index of the image that it is in.
    """

    images: tuple[Shown, ...] = ()
    point: tuple[float, float] = (0.5, 0.5)
    source: int = 0

    def put(self, shown: Shown, second: bool) -> Session:
        """The session with another image in the first or second place."""
        if second and self.images:
            return replace(self, images=(self.images[0], shown))
        return replace(self, images=(shown, *self.images[1:]))

    def without_second(self) -> Session:
        """The session with its first image alone."""
        return Session(self.images[:1], self.point if self.source == 0 else (0.5, 0.5))


def show(
    image: Image.Image, title: str, image_size: int, patch_size: int, sample: int | None = None
) -> Shown:
    """Prepare an RGB image.

    Args:
        image: The image.
        title: What it is called.
        image_size: Longer side that encoders see, a multiple of the patch.
        patch_size: Side of a patch in pixels.
        sample: Its place in the gallery.
    """
    picture = fit_picture(image, image_size, patch_size)
    whole = image.copy()
    whole.thumbnail((MAX_SIDE, MAX_SIDE))
    key = hashlib.sha256(repr(picture.shape).encode() + picture.tobytes()).hexdigest()
    return Shown(title, picture, np.array(whole), key, sample)


def read_bounded(path: Path, min_size: int) -> Image.Image:
    """Read an image file of limited bytes and pixels; both are checked before it is decoded.

    Raises:
        ValueError: If it is too large or cannot be used; names the file without its folder.
    """
    try:
        if path.stat().st_size > MAX_BYTES:
            raise BadImageError(path.name, f'more than {MAX_BYTES // 2**20} MB')
        width, height = read_image_size(path)
        if width * height > MAX_PIXELS:
            raise BadImageError(
                path.name,
                f'{width} x {height} px, more than {MAX_PIXELS // 10**6} million pixels',
            )
        return read_image(path, min_size)
    except OSError as error:
        raise ValueError(f'{path.name}: cannot be read') from error
    except BadImageError as error:
        reason = 'no image that can be read' if 'identify' in error.reason else error.reason
        raise ValueError(f'{path.name}: {reason}') from error
