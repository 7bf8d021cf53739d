"""Host time and bytes of one training item: a uint8 picture against Pillow's crops."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from refineclip.datasets.collate import collate_regions
from refineclip.datasets.image_folder import RegionImageFolder
from refineclip.distill.region_preprocessor import RegionPreprocessor

from . import scenes
from .harness import Comparison, Goal, Numbers
from .published import loader_item
from .registry import benchmark

JPEG_QUALITY = 92
GRID = (4, 4)


class FixedRegions:
    """A region sampler that always returns the cells of one grid."""

    def __call__(self, width: int, height: int, generator: Any, img_path: str) -> Any:
        """Boxes (16, 4), float32 xyxy in [0, 1]."""
        return scenes.grid(*GRID, (width, height)).numpy()


class PhotoFolder(RegionImageFolder):
    """A dataset of one made-up JPEG of 640 x 480, in a temporary folder of its own."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory()
        picture = Image.fromarray(scenes.picture(0))
        picture.save(Path(self._folder.name) / 'photo.jpg', quality=JPEG_QUALITY)
        super().__init__(self._folder.name, FixedRegions())

    @property
    def kilobytes(self) -> float:
        """Size of the file."""
        return Path(self.path(0)).stat().st_size / 1000


def published_item(dataset: PhotoFolder, image_size: int, crop_size: int) -> dict[str, Tensor]:
    """Read and prepare the photo as the published worker does."""
    with Image.open(dataset.path(0)) as image:
        return loader_item(image.convert('RGB'), scenes.grid(*GRID), image_size, crop_size)


def num_bytes(item: dict[str, Any]) -> int:
    """Bytes of all tensors of an item."""
    tensors = [value for value in item.values() if torch.is_tensor(value)]
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


def pixel_difference(a: Tensor, b: Tensor) -> float:
    """Mean absolute difference in 1 / 255 of the pixel range, of (..., 3, h, w) normalised."""
    return float(((a - b).abs() * torch.tensor(scenes.STD)[:, None, None]).mean())


def _sizes(quick: bool) -> tuple[int, int]:
    return (64, 32) if quick else (1024, 224)


@benchmark('loader')
def host(quick: bool) -> Comparison:
    """What a worker does for one item, and what it ships."""
    dataset, sizes = PhotoFolder(), _sizes(quick)

    def published() -> Numbers:
        return dict(num_regions=published_item(dataset, *sizes)['valid'].sum().float())

    def ours() -> Numbers:
        return dict(num_regions=torch.tensor(float(len(dataset[0]['boxes']))))

    published_bytes = num_bytes(published_item(dataset, *sizes))
    our_bytes = num_bytes(dataset[0])
    return Comparison(
        published=published,
        ours=ours,
        setting=f'JPEG of 640 x 480, {dataset.kilobytes:.0f} kB, image {sizes[0]} px, 16 crops of '
        f'{sizes[1]} px in 20 slots; the pixels themselves are compared in row pixels',
        bound='what is left is decoding the JPEG',
        tolerances=dict(num_regions=0.0),
        goals=(Goal('speedup', at_least=8), Goal('bytes', at_least=20)),
        repeats=7,
        calls=1 if quick else 5,
        memory=False,
        facts=dict(
            bytes=published_bytes / our_bytes,
            published_mib=published_bytes / 2**20,
            our_mib=our_bytes / 2**20,
        ),
    )


@benchmark('pixels')
def all_pixels(quick: bool) -> Comparison:
    """Host and device work of one item together, on one CPU core, where no device helps."""
    dataset, sizes = PhotoFolder(), _sizes(quick)
    preprocessor = RegionPreprocessor(scenes.MEAN, scenes.STD, *sizes)

    def published() -> Numbers:
        item = published_item(dataset, *sizes)
        return dict(image=item['image'][None], crops=item['crops'][item['valid']])

    def ours() -> Numbers:
        batch = preprocessor(collate_regions([dataset[0]]))['inputs']
        return dict(image=batch.images, crops=batch.crops)

    return Comparison(
        published=published,
        ours=ours,
        setting='as row loader, and the resizing that a GPU does otherwise, on the same core; '
        'difference in 1/255 of the pixel range, mean over pixels',
        bound='bicubic resizing in float32 where Pillow works on 8 bits',
        tolerances=dict(image=1.0, crops=1.0),
        difference=pixel_difference,
        repeats=7,
        calls=1 if quick else 2,
        memory=False,
    )
