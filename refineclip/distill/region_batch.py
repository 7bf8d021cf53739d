"""The batch that every training stage receives: images, boxes and crops of the same regions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass
class RegionBatch:
    """Images with regions, as :class:`RegionPreprocessor` makes them on the device.

    B images, R regions of all images together; B and R may be 0. Regions of one image are
    consecutive and images come in order, so ``boxes[:, 0]`` never decreases.

    Attributes:
        images: (B, 3, H, W) normalised.
        boxes: (R, 5) rows [image index, x1, y1, x2, y2], in [0, 1] of the *canvas* of ``images``.
        regions: (R, 4) xyxy, the same boxes in [0, 1] of the original image.
        cut_crops: Cuts and normalises the crops of some regions, positions in, (R', 3, c, c) out;
            called only when a teacher looks, so that cached features cost no crop. None in batches
            made without pictures.
        crop_boxes: (R, 4) xyxy, where the region of ``boxes`` lies in its crop, in [0, 1] of the
            crop's canvas. Outside lies zero padding (letterbox), or context when the crop is
            larger than the region (``crop_enlarge``).
        img_paths: B file names.
        img_ids: (B,) int64, index of the image in its dataset.
        epochs: (B,) int64, epoch that the region draw belongs to.
        labels: (R,) int64, index of each region's noun, or None when the sampler knows none.
        pictures: (B, 4) xyxy, where each picture lies on the canvas of ``images``, in [0, 1] of the
            canvas; the rest is padding. None where whoever made the batch did not say.
        resize_whole: Resizes some whole images to the crops' canvas, positions in, (B', 3, c, c)
            out; called only when an image-level term asks. None in batches made without pictures.
    """

    images: Tensor
    boxes: Tensor
    regions: Tensor
    cut_crops: Callable[[list[int]], Tensor] | None
    crop_boxes: Tensor
    img_paths: list[str]
    img_ids: Tensor
    epochs: Tensor
    labels: Tensor | None = None
    pictures: Tensor | None = None
    resize_whole: Callable[[list[int]], Tensor] | None = None

    def __len__(self) -> int:
        """Return the number of images, B."""
        return self.images.shape[0]

    @property
    def num_regions(self) -> int:
        """Number of regions of all images together, R."""
        return self.boxes.shape[0]

    @cached_property
    def crops(self) -> Tensor:
        """Crops of all regions, (R, 3, c, c) normalised, cut when first asked for.

        Raises:
            ValueError: The batch was made without pictures.
        """
        if self.cut_crops is None:
            raise ValueError('expected a batch of a RegionPreprocessor, got one without pictures')
        return self.cut_crops(list(range(self.num_regions)))

    @cached_property
    def whole(self) -> Tensor:
        """The whole images as crops, (B, 3, c, c) normalised, resized when first asked for.

        Raises:
            ValueError: The batch was made without pictures.
        """
        if self.resize_whole is None:
            raise ValueError('expected a batch of a RegionPreprocessor, got one without pictures')
        return self.resize_whole(list(range(len(self))))

    def select(self, images: Sequence[int]) -> RegionBatch:
        """Return the batch of some images and their regions, in the given order.

        Args:
            images: Positions in this batch, without repeats.
        """
        owner = self.boxes[:, 0].long()
        of_images = [(owner == image).nonzero().flatten() for image in images]
        regions = torch.cat([*of_images, owner.new_zeros(0)])
        boxes = self.boxes[regions].clone()
        boxes[:, 0] = torch.cat(
            [torch.full_like(row, i, dtype=boxes.dtype) for i, row in enumerate(of_images)]
            + [boxes.new_zeros(0)]
        )
        rows, cut = regions.tolist(), self.cut_crops
        chosen, resize = list(images), self.resize_whole
        index = torch.tensor(list(images), dtype=torch.long, device=owner.device)
        return RegionBatch(
            images=self.images[index],
            boxes=boxes,
            regions=self.regions[regions],
            cut_crops=None if cut is None else lambda part: cut([rows[i] for i in part]),
            crop_boxes=self.crop_boxes[regions],
            img_paths=[self.img_paths[image] for image in images],
            img_ids=self.img_ids[index],
            epochs=self.epochs[index],
            labels=None if self.labels is None else self.labels[regions],
            pictures=None if self.pictures is None else self.pictures[index],
            resize_whole=None if resize is None else lambda part: resize([chosen[i] for i in part]),
        )
