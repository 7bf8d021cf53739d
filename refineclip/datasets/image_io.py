"""Reading one image file, with every reason to refuse it named."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps
from torch import Tensor

IMAGE_SUFFIXES = ('.jpg', '.jpeg', '.png', '.webp', '.bmp')

_PNG_SIGNATURE = b'\x89PNG\r\n\x1a\n'


class BadImageError(Exception):
    """An image file that cannot be used.

    Args:
        path: The file.
        reason: What is wrong with it, in a few words.
    """

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(path, reason)
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        """Return 'path: reason'."""
        return f'{self.path}: {self.reason}'


def read_image(path: str | Path, min_size: int = 32) -> Image.Image:
    """Read one image as 8-bit RGB, turned as its EXIF orientation says.

    Grey, CMYK and palette images are converted. Alpha is dropped, not composited: the stored
    colours are kept, as OpenCV and mmcv do. Of a multi-picture JPEG (``MPO``, as phones write) the
    first picture is taken.

    Args:
        path: The file.
        min_size: Least width and height in pixels.

    Raises:
        BadImageError: The file is missing, empty, truncated or otherwise unreadable, animated, has
            16 bits per channel, or is smaller than ``min_size``.
    """
    path = Path(path)
    try:
        with path.open('rb') as file:
            head = file.read(32)
            if not head:
                raise BadImageError(str(path), 'zero-byte file')
            if head.startswith(_PNG_SIGNATURE) and len(head) > 24 and head[24] == 16:
                # Pillow would cut colour PNGs to 8 bits without a word.
                raise BadImageError(str(path), '16 bits per channel')
            file.seek(0)
            image = Image.open(file)
            _check_kind(image, path, min_size)
            ImageOps.exif_transpose(image, in_place=True)
            return _to_rgb(image)
    except BadImageError:
        raise
    except Exception as error:  # on damaged bytes Pillow and its EXIF code raise nearly anything
        reason = str(error) or type(error).__name__
        raise BadImageError(str(path), f'cannot be read ({reason})') from error


def read_image_size(path: str | Path) -> tuple[int, int]:
    """Read width and height as :func:`read_image` will return them, from the header alone.

    Raises:
        BadImageError: The file is no image.
    """
    try:
        with Image.open(path) as image:
            turned = image.getexif().get(ExifTags.Base.Orientation, 1) >= 5
            return (image.height, image.width) if turned else image.size
    except Exception as error:  # as in read_image
        raise BadImageError(str(path), f'cannot be read ({error})') from error


def image_to_tensor(image: Image.Image) -> Tensor:
    """Turn an RGB image into a contiguous (3, H, W) uint8 tensor."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()


def _check_kind(image: Image.Image, path: Path, min_size: int) -> None:
    """Refuse by header only, before any pixel is decoded."""
    frames = getattr(image, 'n_frames', 1)
    if frames > 1 and image.format != 'MPO':
        raise BadImageError(str(path), f'animated, {frames} frames')
    if image.mode.startswith('I') or image.mode == 'F':
        raise BadImageError(str(path), f'more than 8 bits per channel (mode {image.mode})')
    if min(image.size) < min_size:
        width, height = image.size
        raise BadImageError(str(path), f'{width} x {height} px, smaller than {min_size} px')


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == 'P' and 'transparency' in image.info:
        image = image.convert('RGBA')
    return image.convert('RGB')
