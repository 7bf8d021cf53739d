"""Segmentation by words alone: maps of the truth are right everywhere, others by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from refineclip.datasets.coco_panoptic import CocoPanoptic
from refineclip.distill.region_preprocessor import RegionPreprocessor
from refineclip.evaluation.panoptic_evaluation import PanopticEvaluation
from refineclip.evaluation.word_segmentation import word_miou

from .toy_panoptic import MEAN, PATCH, SIZE, STD, write_coco


def evaluation(root: Path, resize: str) -> PanopticEvaluation:
    preprocessor = RegionPreprocessor(
        MEAN, STD, SIZE, SIZE, image_resize=resize, crop_resize='squash'
    )
    return PanopticEvaluation(CocoPanoptic(root, 'val2017'), preprocessor, PATCH)


@pytest.fixture
def data(tmp_path: Path) -> PanopticEvaluation:
    return evaluation(write_coco(tmp_path), 'squash')


def one_hot(data: PanopticEvaluation, index: int) -> Tensor:
    """Map (1, C, h, w) that says the truth at every token."""
    image = data.dataset[index]
    ids = image.read_ids()
    classes = np.zeros(ids.shape, dtype=np.int64)
    for segment in image.segments:
        classes[ids == segment.id] = segment.category
    pixels = torch.nn.functional.one_hot(torch.from_numpy(classes), 4).permute(2, 0, 1).float()
    side = SIZE // PATCH
    return torch.nn.functional.interpolate(pixels[None], (side, side), mode='area')


def test_the_truth_is_nearly_right_and_a_constant_is_its_share(data):
    maps = [one_hot(data, index) for index in range(4)]
    assert word_miou(data, maps, lambda tokens: tokens).value > 0.7
    sky = torch.zeros(1, 4, 8, 8)
    sky[:, 3] = 1
    shares = [(image.read_ids() == 300).mean() for image in data.dataset]
    # Three classes are never named, one is named everywhere.
    expected = float(np.mean(shares)) / 4
    found = word_miou(data, [sky] * 4, lambda tokens: tokens)
    assert found.value == pytest.approx(expected, abs=0.01)
    assert found.num_images == 4


def test_scores_are_interpolated_and_not_answers(data):
    """Between a token of .6 : .4 and one of 0 : 1 the border is nearer to the second."""
    maps = torch.zeros(1, 4, 8, 8)
    maps[:, 0, :, :4], maps[:, 1, :, :4], maps[:, 1, :, 4:] = 0.6, 0.4, 1.0
    half = word_miou(data, [maps] * 4, lambda tokens: tokens)
    sure = word_miou(data, [maps.round()] * 4, lambda tokens: tokens)
    assert half.denominator.tolist() != sure.denominator.tolist()


def test_letterboxed_images_are_refused(tmp_path):
    data = evaluation(write_coco(tmp_path), 'letterbox')
    with pytest.raises(ValueError, match="fill the canvas, got image_resize='letterbox'"):
        word_miou(data, [torch.zeros(1, 4, 8, 8)] * 4, lambda tokens: tokens)
