"""Features of the ground-truth regions of a panoptic data set, each encoded as a crop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from refineclip.datasets.coco_panoptic import PanopticImage
from refineclip.datasets.image_io import image_to_tensor, read_image
from refineclip.encoders.towers.dense_vit import DenseViT

Preprocess = Callable[[dict[str, Any]], dict[str, Any]]


@dataclass(frozen=True)
class CropFeatures:
    """What an encoder says of R crops.

    Attributes:
        embedding: (R, D) the encoder's image embedding of each crop, not normalised.
        mean_token: (R, D) mean of the crop's projected patch tokens, not normalised.
        labels: (R,) category index.
        images: (R,) index of the image.
    """

    embedding: Tensor
    mean_token: Tensor
    labels: Tensor
    images: Tensor


def panoptic_batch(
    image: PanopticImage, preprocess: Preprocess, min_area: float = 0.01
) -> tuple[Any, Tensor]:
    """Read one image with its labelled boxes.

    Args:
        image: The annotated image.
        preprocess: A :class:`~refineclip.distill.region_preprocessor.RegionPreprocessor`.
        min_area: Smallest box, as a share of the image.

    Returns:
        The RegionBatch of the image and the (R,) category indices of its boxes.

    Raises:
        ValueError: If the picture has another size than its annotation.
    """
    boxes, labels = image.labelled_boxes(min_area)
    return read_regions(image, boxes, preprocess), torch.from_numpy(labels)


def read_regions(
    image: PanopticImage,
    boxes: NDArray[np.float32],
    preprocess: Preprocess,
    cuts: Tensor | None = None,
) -> Any:
    """Read one image with given boxes.

    Args:
        image: The annotated image.
        boxes: (R, 4) xyxy in [0, 1] of the original image.
        preprocess: A :class:`~refineclip.distill.region_preprocessor.RegionPreprocessor`.
        cuts: (R, 4) int64 xyxy, the pixels to crop; by default what ``preprocess`` makes of the
            boxes.

    Returns:
        The RegionBatch of the image.

    Raises:
        ValueError: If the picture has another size than its annotation.
    """
    picture = read_image(image.img_path)
    if picture.size != (image.width, image.height):
        raise ValueError(
            f'expected {image.width} x {image.height} px as annotated, got {picture.size[0]} x '
            f'{picture.size[1]} px in {image.img_path}; take images and annotations of one release'
        )
    data: dict[str, Any] = {
        'inputs': [image_to_tensor(picture)],
        'boxes': [torch.from_numpy(boxes)],
        'cuts': None if cuts is None else [cuts],
    }
    return preprocess(data)['inputs']


@torch.inference_mode()
def encode_crops(
    visual: DenseViT,
    images: Sequence[PanopticImage],
    preprocess: Preprocess,
    min_area: float = 0.01,
) -> CropFeatures:
    """Encode every labelled box of every image as a crop of its own.

    Args:
        visual: The encoder, in eval mode, on the device of ``preprocess``.
        images: Annotated images.
        preprocess: A RegionPreprocessor that makes crops.
        min_area: Smallest box, as a share of the image.
    """
    embeddings, means, labels, owners = [], [], [], []
    for index, image in enumerate(images):
        batch, categories = panoptic_batch(image, preprocess, min_area)
        if len(categories) == 0:
            continue
        tokens, grid = visual.embed(batch.crops)
        tokens = visual.run(tokens, grid)
        embeddings.append(visual.pool(tokens).float().cpu())
        means.append(visual.to_map(visual.project(tokens), grid).mean((2, 3)).float().cpu())
        labels.append(categories)
        owners.append(torch.full_like(categories, index))
    if not embeddings:
        raise ValueError(
            f'expected boxes of at least {min_area:g} of the image area, got none in '
            f'{len(images)} images; lower min_area'
        )
    return CropFeatures(
        torch.cat(embeddings), torch.cat(means), torch.cat(labels), torch.cat(owners)
    )
