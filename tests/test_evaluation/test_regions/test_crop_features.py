from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from refineclip.datasets.coco_panoptic import PanopticImage, PanopticSegment
from refineclip.distill.region_preprocessor import RegionPreprocessor
from refineclip.encoders.build import build_clip
from refineclip.encoders.towers.dense_vit import DenseViT
from refineclip.evaluation.regions.crop_features import encode_crops, panoptic_batch


@pytest.fixture
def visual() -> DenseViT:
    kwargs = {'img_size': 32, 'patch_size': 8, 'embed_dim': 32, 'depth': 2, 'num_heads': 2}
    clip = build_clip('timm/vit_small_patch14_dinov2', text=False, model_kwargs=kwargs)
    return clip.visual.eval()


@pytest.fixture
def preprocess() -> RegionPreprocessor:
    return RegionPreprocessor([120.0] * 3, [60.0] * 3, 32, 32, 'squash', 'squash')


@pytest.fixture
def images(tmp_path: Path) -> list[PanopticImage]:
    boxes = ((0, 0, 40, 40), (20, 10, 60, 40), (0, 0, 2, 2))
    segments = tuple(PanopticSegment(i + 1, i, True, False, box, 1) for i, box in enumerate(boxes))
    found = []
    for index, kept in enumerate((segments, segments[2:], segments[1:2])):
        path = tmp_path / f'{index}.png'
        pixels = np.random.default_rng(index).integers(0, 256, (40, 60, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(path)
        found.append(PanopticImage(path, path, 60, 40, kept))
    return found


def test_crops_are_encoded_as_images(
    visual: DenseViT, preprocess: RegionPreprocessor, images: list[PanopticImage]
) -> None:
    crops = encode_crops(visual, images, preprocess)
    # The 2 x 2 px boxes are too small, which leaves the second image without any.
    assert crops.labels.tolist() == [0, 1, 1]
    assert crops.images.tolist() == [0, 0, 2]
    batch, labels = panoptic_batch(images[0], preprocess)
    assert labels.tolist() == [0, 1]
    with torch.no_grad():
        expected = visual.image_embedding(batch.crops)
        tokens = visual.dense(batch.crops, 'plain').mean((2, 3))
    torch.testing.assert_close(crops.embedding[:2], expected)
    torch.testing.assert_close(crops.mean_token[:2], tokens)


def test_no_region_at_all(
    visual: DenseViT, preprocess: RegionPreprocessor, images: list[PanopticImage]
) -> None:
    with pytest.raises(ValueError, match='got none in 1 images'):
        encode_crops(visual, images[1:2], preprocess)


def test_picture_of_another_size(
    preprocess: RegionPreprocessor, images: list[PanopticImage]
) -> None:
    with pytest.raises(ValueError, match='expected 61 x 40 px as annotated, got 60 x 40'):
        panoptic_batch(replace(images[0], width=61), preprocess)
