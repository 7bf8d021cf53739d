"""Superpixel proposals and what is kept of any proposals."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.ops import box_iou

from refineclip.datasets.proposal_making import BoxFilter, superpixel_proposals

RECTANGLES = [(20, 20, 90, 70), (120, 30, 220, 110), (60, 120, 180, 180)]
COLOURS = [(200, 40, 40), (40, 160, 60), (50, 60, 200)]


def scene(width: int = 240, height: int = 200) -> Image.Image:
    """Three rectangles on a grey ground with a little noise; scaled to the given size."""
    pixels = np.full((200, 240, 3), 128.0)
    for (x1, y1, x2, y2), colour in zip(RECTANGLES, COLOURS, strict=True):
        pixels[y1:y2, x1:x2] = colour
    pixels += np.random.default_rng(0).normal(0, 4, pixels.shape)
    image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
    return image.resize((width, height))


def best_iou(rows: np.ndarray, boxes: list[tuple[float, ...]]) -> torch.Tensor:
    found = torch.tensor(rows[:, :4], dtype=torch.float64).reshape(-1, 4)
    return box_iou(torch.tensor(boxes, dtype=torch.float64), found).amax(dim=1)


@pytest.mark.parametrize(('width', 'height'), [(240, 200), (960, 800), (240, 400)])
def test_the_three_rectangles_are_the_best_three(width, height):
    pytest.importorskip('skimage')
    pytest.importorskip('sklearn')
    image = scene(width, height)
    rows = BoxFilter()(superpixel_proposals(image), width, height)
    scale = np.array([width / 240, height / 200] * 2)
    truth = [tuple(np.array(box) * scale) for box in RECTANGLES]
    assert best_iou(rows[:3], truth).min() > 0.9
    assert (np.diff(rows[:, 4]) <= 0).all()


def test_an_even_image_has_no_proposals():
    pytest.importorskip('skimage')
    pytest.importorskip('sklearn')
    image = Image.new('RGB', (64, 48), (10, 20, 30))
    assert superpixel_proposals(image).shape == (0, 5)
    assert BoxFilter()(superpixel_proposals(image), 64, 48).shape == (0, 5)


def test_filter_by_hand():
    rows = [
        [0, 0, 100, 100, 0.9],  # the whole image
        [10, 10, 50, 50, 0.3],
        [10, 10, 50, 48, 0.8],  # IoU .95 with the last, higher score
        [90, 90, 130, 120, 0.5],  # clipped to 10 x 10
        [0, 0, 7, 9, 0.7],  # 63 px
        [60, 20, 50, 40, 0.6],  # inverted
        [20, 20, 60, float('nan'), 0.99],
    ]
    kept = BoxFilter()(np.array(rows), 100, 100)
    assert kept.tolist() == [[10, 10, 50, 48, 0.8], [90, 90, 100, 100, 0.5]]
    assert BoxFilter(max_per_image=1)(np.array(rows), 100, 100).tolist() == kept[:1].tolist()
    assert len(BoxFilter(nms_iou=0.96)(np.array(rows), 100, 100)) == 3
    assert len(BoxFilter(min_area=63)(np.array(rows), 100, 100)) == 3
    assert len(BoxFilter(max_area_fraction=1.0, nms_iou=1.0)(np.array(rows), 100, 100)) == 4


def test_filter_of_nothing():
    assert BoxFilter()(np.zeros((0, 5)), 10, 10).shape == (0, 5)
