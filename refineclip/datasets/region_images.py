"""Images with regions drawn per image: what both training stages read, wherever the images lie."""

from __future__ import annotations

from abc import abstractmethod
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.registry import TASK_UTILS
from PIL import Image
from torch.utils.data import Dataset

from refineclip.datasets.image_io import BadImageError, image_to_tensor
from refineclip.datasets.packed import PackedNames


class RegionImages(Dataset[dict[str, Any]]):
    """Unlabelled images with random regions.

    The regions of an image depend on (``seed``, epoch, index) only. Indices beyond the length
    encode the epoch: ``epoch, index = divmod(i, len(dataset))`` (see :class:`EpochSampler`).

    An item is a dict of ``inputs`` (3, H, W) uint8 RGB; ``boxes`` (R, 4) float32 xyxy in [0, 1] of
    the image; ``img_path`` str; ``img_id`` int, the index; ``epoch`` int; and ``labels`` (R,) int64
    if the sampler names its regions. A file that cannot be used yields
    ``dict(bad_image=(path, reason))`` instead: :func:`collate_regions` drops it and
    :class:`BadImageHook` reports it. No other image takes its place.

    Args:
        data_root: Where the images lie.
        names: Their names below it.
        region_sampler: Config of a registered region sampler, or the sampler itself.
        seed: Seed of the region draws.
        fixed_regions: Draw the same regions in every epoch, as feature caches need.

    Raises:
        ValueError: The sampler does not fit the images.
    """

    def __init__(
        self,
        data_root: str,
        names: PackedNames,
        region_sampler: dict[str, Any] | Any,
        seed: int,
        fixed_regions: bool,
    ) -> None:
        self.data_root = data_root
        self.names = names
        self.seed = seed
        self.fixed_regions = fixed_regions
        self.region_sampler = build_region_sampler(region_sampler)
        check_images = getattr(self.region_sampler, 'check_images', None)
        if check_images is not None:
            check_images(self.names)

    @abstractmethod
    def read(self, index: int) -> Image.Image:
        """Read image ``index``.

        Raises:
            BadImageError: It cannot be used.
        """

    @property
    def metainfo(self) -> dict[str, Any]:
        """Facts about the dataset, for mmengine's runner and visualizer."""
        return {'data_root': str(self.data_root), 'num_images': len(self)}

    @property
    def epoch_stride(self) -> int:
        """What one epoch adds to an index."""
        return len(self.names)

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.names)

    def path(self, index: int) -> str:
        """Return the path of image ``index``."""
        return str(Path(self.data_root, self.names[index]))

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Read an image and draw its regions; ``index`` may carry the epoch."""
        epoch, index = divmod(index, len(self))
        path = self.path(index)
        try:
            image = self.read(index)
        except BadImageError as error:
            return {'bad_image': (error.path, error.reason)}
        generator = np.random.default_rng((self.seed, 0 if self.fixed_regions else epoch, index))
        drawn = self.region_sampler(image.width, image.height, generator, path)
        boxes, labels = drawn if isinstance(drawn, tuple) else (drawn, None)
        item = {
            'inputs': image_to_tensor(image),
            'boxes': torch.from_numpy(boxes),
            'img_path': path,
            'img_id': index,
            'epoch': epoch,
        }
        return item if labels is None else {**item, 'labels': torch.from_numpy(labels)}


def build_region_sampler(sampler: dict[str, Any] | Any) -> Any:
    """Build a region sampler from its config, or return one that is built.

    Raises:
        ValueError: No sampler of that name is registered; the message lists those that are.
    """
    if not isinstance(sampler, dict):
        return sampler
    if TASK_UTILS.get(sampler['type']) is None:
        known = sorted(name for name in TASK_UTILS.module_dict if name.endswith('Regions'))
        raise ValueError(
            f'region_sampler: expected one of {known}, got {sampler["type"]!r}; is '
            "'refineclip.distill' among the custom_imports of the config?"
        )
    return TASK_UTILS.build(sampler)
