"""Images with captions, for the pre-training of the microworld's CLIP."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.registry import DATASETS
from torch import Tensor
from torch.utils.data import Dataset

from .scene import Microworld


@DATASETS.register_module()
class MicroworldPairs(Dataset[dict[str, Any]]):
    """Pre-training views: ``dict(inputs=(3, 64, 64) uint8, data_samples=caption)``.

    Nothing is stored on disk: an image is drawn when it is first asked for and kept in memory
    (12 kB each).

    Args:
        num_images: How many different pairs.
        seed: Seed of the world's images.
    """

    metainfo: dict[str, Any] = {}  # noqa: RUF012  (the runner reads it from the instance)

    def __init__(self, num_images: int, seed: int = 0) -> None:
        self.num_images = num_images
        self.world = Microworld('pretrain', 'pretrain', seed)
        self._drawn: dict[int, tuple[Tensor, str]] = {}

    def __len__(self) -> int:
        return self.num_images

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Draw or look up a pair."""
        if index not in self._drawn:
            scene = self.world[index]
            pixels = torch.from_numpy(scene.image).permute(2, 0, 1).contiguous()
            self._drawn[index] = pixels, scene.caption
        pixels, caption = self._drawn[index]
        return dict(inputs=pixels, data_samples=caption)
