"""Reading one image file, with every reason to refuse it named."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from torch import Tensor

# Of what a folder is searched for; a file that is named may have any.
IMAGE_SUFFIXES = (
    *('.jpg', '.jpeg', '.png', '.webp', '.avif'),
    *('.bmp', '.tif', '.tiff', '.ppm', '.pgm'),
)
# Beyond this the shorter side would be less than a pixel at the sizes that towers see.
MAX_ASPECT = 100

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

    The one reader of everything that shows or names pixels, so that all of it means the same ones.
    The bytes decide the format, not the file's name. Grey, CMYK and palette images are converted.
    Alpha is dropped, not composited: the stored colours are kept, as OpenCV and mmcv do. Of a
    multi-picture JPEG (``MPO``, as phones write) the first picture is taken.

    Args:
        path: The file.
        min_size: Least width and height in pixels.

    Raises:
        BadImageError: The file is missing, empty, truncated or otherwise unreadable, animated, has
            16 bits per channel, is smaller than ``min_size``, or one side is more than
            ``MAX_ASPECT`` times the other.
    """
    _check_file(path)
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise BadImageError(str(path), f'cannot be read ({error})') from error
    return decode_image(content, str(path), min_size)


def decode_image(content: bytes, path: str, min_size: int = 32) -> Image.Image:
    """Decode the bytes of an image file; see :func:`read_image`.

    Args:
        content: The whole file.
        path: Its name, for the error.
        min_size: Least width and height in pixels.

    Raises:
        BadImageError: As :func:`read_image`.
    """
    if not content:
        raise BadImageError(path, 'zero-byte file')
    if content.startswith(_PNG_SIGNATURE) and len(content) > 24 and content[24] == 16:
        # Pillow would cut colour PNGs to 8 bits without a word.
        raise BadImageError(path, '16 bits per channel')
    try:
        image = Image.open(BytesIO(content))
        _check_kind(image, path, min_size)
        ImageOps.exif_transpose(image, in_place=True)
        return _to_rgb(image)
    except BadImageError:
        raise
    except Exception as error:  # on damaged bytes Pillow and its EXIF code raise nearly anything
        # Pillow would print the buffer's address.
        unknown = isinstance(error, UnidentifiedImageError)
        reason = 'cannot identify image file' if unknown else str(error) or type(error).__name__
        raise BadImageError(path, f'cannot be read ({reason})') from error


def read_image_size(path: str | Path) -> tuple[int, int]:
    """Read width and height as :func:`read_image` will return them, from the header alone.

    Raises:
        BadImageError: The file is no image.
    """
    _check_file(path)
    try:
        with Image.open(path) as image:
            # Pillow turns TIFF by itself, and says so in the size.
            turned = image.format != 'TIFF' and (
                image.getexif().get(ExifTags.Base.Orientation, 1) >= 5
            )
            return (image.height, image.width) if turned else image.size
    except Exception as error:  # as in decode_image
        raise BadImageError(str(path), f'cannot be read ({error})') from error


def image_to_tensor(image: Image.Image) -> Tensor:
    """Turn an RGB image into a contiguous (3, H, W) uint8 tensor."""
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()


def _check_file(path: str | Path) -> None:
    """Refuse pipes and devices, which are read without an end."""
    path = Path(path)
    try:
        special = path.exists() and not path.is_file()
    except OSError as error:  # a name too long, a folder that may not be entered
        raise BadImageError(str(path), f'cannot be read ({error})') from error
    if special:
        raise BadImageError(str(path), 'no file' + (' but a folder' if path.is_dir() else ''))


def _check_kind(image: Image.Image, path: str, min_size: int) -> None:
    """Refuse by header only, before any pixel is decoded."""
    frames = getattr(image, 'n_frames', 1)
    if frames > 1 and image.format != 'MPO':
        raise BadImageError(path, f'animated, {frames} frames')
    if image.mode.startswith('I') or image.mode == 'F':
        raise BadImageError(path, f'more than 8 bits per channel (mode {image.mode})')
    width, height = image.size
    if min(image.size) < min_size:
        raise BadImageError(path, f'{width} x {height} px, smaller than {min_size} px')
    if max(image.size) > MAX_ASPECT * min(image.size):
        raise BadImageError(
            path, f'{width} x {height} px, one side is more than {MAX_ASPECT} times the other'
        )


def _to_rgb(image: Image.Image) -> Image.Image:
    if image.mode == 'P' and 'transparency' in image.info:
        image = image.convert('RGBA')
    return image.convert('RGB')
