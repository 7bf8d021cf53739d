"""Images with captions, for the pre-training of the microworld's CLIP."""

from __future__ import annotations

from typing import Any

from mmengine.registry import DATASETS
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from torchvision.transforms.functional import pil_to_tensor

from .scene import Microworld


@DATASETS.register_module()
class MicroworldPairs(Dataset[dict[str, Any]]):
    """Views with captions: ``dict(inputs=(3, S, S) uint8, data_samples=caption)``.

    Nothing is stored on disk: an image is drawn when it is first asked for and kept in memory
    (3 kB at 32 px, 12 kB at 64 px, 48 kB at 128 px).

    Args:
        num_images: How many different pairs.
        view: View of the world, ``'pretrain'`` (64 px) or ``'dense'`` (128 px).
        reduce: Side of the squares of pixels that are averaged: 2 halves the image.
        seed: Seed of the world's images.

    Raises:
        ValueError: On an unknown view, or if ``reduce`` does not divide its side.
    """

    metainfo: dict[str, Any] = {}  # noqa: RUF012  (the runner reads it from the instance)

    def __init__(
        self, num_images: int, view: str = 'pretrain', reduce: int = 1, seed: int = 0
    ) -> None:
        self.num_images, self.reduce = num_images, reduce
        self.world = Microworld('pretrain', view, seed)
        if reduce < 1 or self.world.size % reduce:
            raise ValueError(
                f'reduce: expected a divisor of the {self.world.size} px of this view, got {reduce}'
            )
        self._drawn: dict[int, tuple[Tensor, str]] = {}

    def __len__(self) -> int:
        return self.num_images

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Draw or look up a pair."""
        if index not in self._drawn:
            scene = self.world[index]
            image = Image.fromarray(scene.image).reduce(self.reduce)
            self._drawn[index] = pil_to_tensor(image), scene.caption
        pixels, caption = self._drawn[index]
        return dict(inputs=pixels, data_samples=caption)
