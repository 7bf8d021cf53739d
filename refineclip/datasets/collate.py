"""Batching of images of different sizes with their regions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmengine.registry import FUNCTIONS


@FUNCTIONS.register_module()
def collate_regions(batch: Sequence[dict[str, Any]]) -> dict[str, list[Any]]:
    """Collect items of :class:`RegionImageFolder` into lists; nothing is stacked.

    Args:
        batch: Items with ``inputs``, ``boxes``, ``img_path``, ``img_id``, ``epoch``, or with
            ``bad_image`` (path, reason) for a file that could not be used.

    Returns:
        Dict of equally long lists ``inputs`` (uint8 (3, H, W)), ``boxes`` (float32 (R, 4)),
        ``img_paths``, ``img_ids``, ``epochs`` of the good items, empty if there are none,
        ``labels`` (int64 (R,)) where items have them, and ``bad_images``, the (path, reason) of the
        others.
    """
    good = [item for item in batch if 'bad_image' not in item]
    return {
        'inputs': [item['inputs'] for item in good],
        'boxes': [item['boxes'] for item in good],
        'labels': [item['labels'] for item in good if 'labels' in item],
        'img_paths': [item['img_path'] for item in good],
        'img_ids': [item['img_id'] for item in good],
        'epochs': [item['epoch'] for item in good],
        'bad_images': [item['bad_image'] for item in batch if 'bad_image' in item],
    }
