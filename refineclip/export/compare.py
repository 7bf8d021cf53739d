"""Whether what was loaded back says the same: on random pixels and on a picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from refineclip.encoders.towers.dense_vit import DenseViT

from .errors import ExportMismatchError

TOLERANCE = 1e-4
RANDOM, PICTURE = 'random pixels', 'picture'


@dataclass(frozen=True)
class Comparison:
    """One output of the exported model beside the same output of the original.

    Attributes:
        what: The output, and what went in.
        difference: See :func:`difference`.
    """

    what: str
    difference: float


def difference(ours: Tensor, theirs: Tensor) -> float:
    """Largest absolute difference, as a share of the largest absolute value of ``ours``.

    Returns:
        0 where both are equal; infinity where shapes differ or a value is not finite.
    """
    ours, theirs = ours.detach().double().cpu(), theirs.detach().double().cpu()
    if ours.shape != theirs.shape or not (ours.isfinite().all() and theirs.isfinite().all()):
        return math.inf
    largest = float((ours - theirs).abs().max())
    scale = float(ours.abs().max())
    return largest / scale if scale else largest


def compare(what: str, ours: Tensor, theirs: Tensor) -> Comparison:
    """Compare one output; see :func:`difference`."""
    return Comparison(what, difference(ours, theirs))


def require_equal(comparisons: Sequence[Comparison]) -> None:
    """Refuse an export that says something else than the original.

    Raises:
        ExportMismatchError: Naming the output that differs most, if that is by more than
            ``TOLERANCE``.
    """
    assert comparisons
    worst = max(comparisons, key=lambda one: one.difference)
    if worst.difference > TOLERANCE:
        raise ExportMismatchError(
            f'expected differences up to {TOLERANCE:g} of the largest value, got '
            f'{worst.difference:.1e} in {worst.what}; nothing was kept. Are the weights finite? '
            'If so, this is a bug of the export or of the library that loads it: report it with '
            "doctor's output"
        )


def sample_pixels(size: tuple[int, int], picture: Image.Image) -> dict[str, Tensor]:
    """Two inputs that every export is tried on.

    Args:
        size: (height, width) in pixels.
        picture: Resized to it.

    Returns:
        Name -> RGB (2, 3, H, W) in [0, 1]: noise, and the picture with its mirror image.
    """
    generator = torch.Generator().manual_seed(0)
    shrunk = picture.convert('RGB').resize((size[1], size[0]), Image.Resampling.BICUBIC)
    pixels = torch.frombuffer(bytearray(shrunk.tobytes()), dtype=torch.uint8)
    photo = pixels.view(*size, 3).permute(2, 0, 1).float() / 255
    return {
        RANDOM: torch.rand(2, 3, *size, generator=generator),
        PICTURE: torch.stack((photo, photo.flip(2))),
    }


def normalize_pixels(pixels: Tensor, visual: DenseViT) -> Tensor:
    """Normalise RGB (B, 3, H, W) in [0, 1] as a tower wants it."""
    mean, std = (torch.tensor(x).view(3, 1, 1) for x in (visual.image_mean, visual.image_std))
    return (pixels - mean) / std


def drawn_picture() -> Image.Image:
    """A picture that needs no file: an image of the microworld, 128 px."""
    from refineclip.datasets.microworld import Microworld

    return Image.fromarray(Microworld('val')[0].image)
