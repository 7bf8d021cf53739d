"""Toy tower and batches for the training stages."""

from __future__ import annotations

from typing import Any

import torch

from refineclip.distill.region_batch import RegionBatch

PATCH, SIZE = 8, 32

TOWER = dict(
    embed_dim=12,
    vision_cfg=dict(image_size=SIZE, layers=3, width=16, head_width=8, patch_size=PATCH),
    text_cfg=dict(context_length=8, vocab_size=49408, width=16, heads=2, layers=1),
)
STUDENT = dict(type='RefinerCLIP', model=TOWER)
PREPROCESSOR = dict(
    type='RegionPreprocessor',
    mean=[122.8, 116.7, 104.1],
    std=[68.5, 66.6, 70.3],
    image_size=SIZE,
    crop_size=SIZE,
)


def raw_batch(num_images: int = 3, seed: int = 0) -> dict[str, Any]:
    """A batch as the loader ships it: uint8 images of various sizes, two boxes each."""
    generator = torch.Generator().manual_seed(seed)
    sizes = [(40, 48), (32, 32), (50, 30), (36, 64)][:num_images]
    return dict(
        inputs=[
            torch.randint(0, 256, (3, *size), generator=generator, dtype=torch.uint8)
            for size in sizes
        ],
        boxes=[
            torch.tensor([[0.0, 0.0, 0.5, 0.5], [0.25, 0.25, 1.0, 1.0]]) for _ in range(num_images)
        ],
        img_paths=[f'image_{index}_{seed}.png' for index in range(num_images)],
        img_ids=list(range(num_images)),
        epochs=[0] * num_images,
        bad_images=[],
    )


def region_batch(model: Any, num_images: int = 3, seed: int = 0) -> RegionBatch:
    """The same batch through the model's own preprocessor."""
    return model.data_preprocessor(raw_batch(num_images, seed), training=True)['inputs']
