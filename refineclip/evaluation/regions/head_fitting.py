"""Text heads of a vision-only tower, fitted on the labelled crops of a panoptic data set."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from refineclip.datasets.coco_panoptic import PanopticImage
from refineclip.distill.region_preprocessor import RegionPreprocessor
from refineclip.encoders.text.text_head import TextHead
from refineclip.encoders.towers.dense_vit import DenseViT

from .crop_features import CropFeatures, encode_crops


def label_crops(
    visual: DenseViT,
    images: Sequence[PanopticImage],
    crop_size: int = 224,
    min_area: float = 0.01,
    device: str | torch.device = 'cpu',
) -> CropFeatures:
    """Encode the labelled boxes of images as squashed crops of their own.

    Args:
        visual: The encoder, in eval mode, on the device.
        images: Annotated images.
        crop_size: Side of a crop in pixels.
        min_area: Smallest box, as a share of the image.
        device: Where crops are made.
    """
    preprocess = RegionPreprocessor(
        mean=[255 * value for value in visual.image_mean],
        std=[255 * value for value in visual.image_std],
        image_size=crop_size,
        crop_size=crop_size,
        image_resize='squash',
        crop_resize='squash',
    ).to(device)
    return encode_crops(visual, images, preprocess, min_area)


def fit_head(features: Tensor, labels: Tensor, text: Tensor, ridge: float = 100.0) -> TextHead:
    """Fit a head on features (M, D) of crops.

    Args:
        features: Embedding or mean token of each crop.
        labels: (M,) category index.
        text: (C, T) embedding of each category's name.
        ridge: See :meth:`TextHead.fit`.
    """
    return TextHead.fit(features, text[labels], ridge, text_mean=text.mean(0))
