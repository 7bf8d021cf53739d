"""What every refined encoder has to beat for free: an earlier block, and the mean colour."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from refineclip.encoders.towers.dense_vit import DenseViT


class TappedEncoder(nn.Module):
    """The dense map of an earlier block of an encoder, through its final norm and head.

    Last blocks of many towers serve the class token more than the map, so tapping earlier is the
    baseline that costs nothing.

    Args:
        visual: The encoder.
        block: Index of the block (0-based) whose output is taken, as it is: no dense mode.

    Raises:
        ValueError: If there is no such block.
    """

    def __init__(self, visual: DenseViT, block: int) -> None:
        super().__init__()
        if not 0 <= block < visual.num_blocks:
            raise ValueError(
                f'expected a block in [0, {visual.num_blocks - 1}] after @, got {block}'
            )
        self.visual = visual
        self.block = block
        self.image_mean, self.image_std = visual.image_mean, visual.image_std

    def finish(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        """Map tokens (B, N, W) after the block to (B, D, h, w)."""
        return self.visual.to_map(self.visual.project(tokens), grid)

    def dense(self, images: Tensor) -> Tensor:
        """Map normalised images (B, 3, H, W) to (B, D, h, w)."""
        tokens, grid = self.visual.embed(images)
        return self.finish(self.visual.run(tokens, grid, 0, self.block + 1), grid)

    def image_embedding(self, images: Tensor) -> Tensor:
        """The image embedding (B, D) of the whole encoder."""
        return self.visual.image_embedding(images)


class ColourEncoder(nn.Module):
    """The mean colour of each patch and a constant: what no network at all would reach.

    The constant keeps brightness in the direction of the vector, so that cosines compare colours
    and not only hues. It has no text space.

    Args:
        patch_size: Side of a patch in pixels.
        image_mean: Mean that the images are normalised with, in [0, 1].
        image_std: Their standard deviation, in [0, 1].
    """

    def __init__(
        self, patch_size: int, image_mean: tuple[float, ...], image_std: tuple[float, ...]
    ) -> None:
        super().__init__()
        self.patch_size = patch_size
        self.image_mean, self.image_std = image_mean, image_std

    def dense(self, images: Tensor) -> Tensor:
        """Map normalised images (B, 3, H, W) to (B, 4, h, w), the last channel 1."""
        colours = F.avg_pool2d(images, self.patch_size)
        return torch.cat([colours, torch.ones_like(colours[:, :1])], dim=1)

    def image_embedding(self, images: Tensor) -> Tensor:
        """The mean colour of each image and a constant, (B, 4)."""
        return self.dense(images).mean((2, 3))
