"""Images and dense maps in the forms that figures draw: pictures, and L2-normalised tokens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.nn import functional as F

from refineclip.datasets.image_io import read_image
from refineclip.encoders.finite import check_finite

Picture = NDArray[np.uint8]
Maps = Mapping[str, Sequence[Tensor]]


def to_picture(image: Any) -> Picture:
    """Turn an image into what can be shown.

    Args:
        image: (H, W, 3) uint8 array, PIL image, (3, H, W) uint8 tensor, or (3, H, W) float tensor
            in [0, 1].

    Returns:
        (H, W, 3) uint8 RGB.

    Raises:
        ValueError: On another shape, or on values outside [0, 1] (a normalised tensor).
    """
    if isinstance(image, Image.Image):
        image = np.asarray(image.convert('RGB'))
    if isinstance(image, Tensor):
        pixels = image.detach().cpu()
        if pixels.is_floating_point():
            if not (pixels.min() >= -1e-3 and pixels.max() <= 1 + 1e-3):  # also refuses NaN
                raise ValueError(
                    'expected a float image in [0, 1], got values from '
                    f'{float(pixels.min()):.2f} to {float(pixels.max()):.2f}; a normalised tensor '
                    'goes through denormalize(images, encoder.image_mean, encoder.image_std) first'
                )
            pixels = (pixels * 255).round().clamp(0, 255).to(torch.uint8)
        image = pixels.permute(1, 2, 0).numpy() if pixels.ndim == 3 else pixels.numpy()
    array = np.asarray(image)
    if array.ndim != 3 or array.shape[2] != 3 or array.dtype != np.uint8:
        raise ValueError(
            'expected a uint8 image (H, W, 3) or a tensor (3, H, W), got shape '
            f'{tuple(array.shape)} of {array.dtype}'
        )
    return array


def denormalize(images: Tensor, mean: Sequence[float], std: Sequence[float]) -> list[Picture]:
    """Undo an encoder's normalisation.

    Args:
        images: (B, 3, H, W) normalised.
        mean: The encoder's ``image_mean``, in [0, 1].
        std: The encoder's ``image_std``, in [0, 1].

    Returns:
        B pictures (H, W, 3) uint8.
    """
    shape = (1, 3, 1, 1)
    pixels = images.detach().float().cpu() * torch.tensor(std).view(shape)
    pixels = (pixels + torch.tensor(mean).view(shape)).clamp(0, 1)
    return [to_picture(one) for one in pixels]


def normalize(picture: Picture, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Normalise one picture (H, W, 3) uint8 for an encoder: (1, 3, H, W), means in [0, 1]."""
    pixels = torch.from_numpy(np.array(picture)).permute(2, 0, 1)[None].float() / 255
    return (pixels - torch.tensor(mean).view(1, 3, 1, 1)) / torch.tensor(std).view(1, 3, 1, 1)


def fit_picture(image: str | Path | Image.Image, long_side: int, patch_size: int) -> Picture:
    """Resize an image so that whole patches cover it, without padding.

    Both sides are rounded to multiples of the patch on their own, so the aspect changes by half a
    patch at most.

    Args:
        image: A file, or an RGB image.
        long_side: Pixels of the longer side, a multiple of the patch.
        patch_size: Pixels of a patch.

    Raises:
        ValueError: If ``long_side`` is no multiple of the patch.
        BadImageError: If the file cannot be used.
    """
    if long_side < patch_size or long_side % patch_size:
        raise ValueError(
            f'expected a longer side that is a multiple of the patch {patch_size}, got {long_side}'
        )
    picture = image if isinstance(image, Image.Image) else read_image(image)
    scale = long_side / max(picture.size)
    sides = [max(1, round(side * scale / patch_size)) * patch_size for side in picture.size]
    return np.array(picture.resize((sides[0], sides[1]), Image.Resampling.BICUBIC))


def as_map(dense: Tensor, name: str = 'map', source: object = 'a picture') -> Tensor:
    """Check a dense map (D, h, w) or (1, D, h, w); returns (D, h, w) float32 on the CPU.

    Args:
        dense: The map.
        name: Of the model, for errors.
        source: Of the image, for errors.

    Raises:
        ValueError: On another shape, or if it is not finite.
    """
    one = dense.detach().float().cpu()
    if one.ndim == 4 and len(one) == 1:
        one = one[0]
    if one.ndim != 3:
        raise ValueError(f'{name}: expected a map (D, h, w) of one image, got {tuple(dense.shape)}')
    check_finite(one[None], 'features', [source], name)
    return one


def tokens_of(dense: Tensor, name: str = 'map') -> Tensor:
    """L2-normalised tokens (N, D), row-major, of a map (D, h, w) or (1, D, h, w)."""
    return F.normalize(as_map(dense, name).flatten(1).T, dim=1)


def check_maps(maps: Maps, num_images: int) -> None:
    """Hold the maps of every model against the images.

    Raises:
        ValueError: Without a model or an image, or if a model has not one map per image.
    """
    if not maps or num_images == 0:
        raise ValueError(
            f'expected one or more models and images, got {len(maps)} models, {num_images} images'
        )
    for name, own in maps.items():
        if len(own) != num_images:
            raise ValueError(
                f'{name}: expected one map per image, got {len(own)} maps for {num_images} images'
            )


@torch.inference_mode()
def encode_pictures(
    encoders: Mapping[str, Any],
    pictures: Sequence[Picture],
    device: str | torch.device = 'cpu',
    sources: Sequence[object] | None = None,
) -> dict[str, list[Tensor]]:
    """Dense maps of pictures of any sizes.

    Args:
        encoders: Name -> encoder with ``dense``, ``image_mean`` and ``image_std``.
        pictures: (H, W, 3) uint8, sides multiples of the patch.
        device: Where the encoders are.
        sources: Names of the pictures, for errors; default: their positions.

    Returns:
        Name -> one (D, h, w) map per picture, on the CPU.

    Raises:
        ValueError: If a map is not finite.
    """
    found: dict[str, list[Tensor]] = {name: [] for name in encoders}
    sources = [f'picture {i}' for i in range(len(pictures))] if sources is None else sources
    for picture, source in zip(pictures, sources, strict=True):
        for name, encoder in encoders.items():
            images = normalize(picture, encoder.image_mean, encoder.image_std).to(device)
            found[name].append(as_map(encoder.dense(images), name, source))
    return found
