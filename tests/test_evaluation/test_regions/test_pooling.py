from __future__ import annotations

import numpy as np
import pytest
import torch

from refineclip.encoders.text.text_head import TextHead
from refineclip.evaluation.regions import OURS
from refineclip.evaluation.regions.pooling import (
    RegionFeatures,
    boxes_on_canvas,
    pool_image,
    pool_masks,
    score_regions,
)


def test_mask_pooling_by_hand() -> None:
    dense_map = torch.tensor([[[1.0, 2.0], [4.0, 8.0]], [[0.0, 1.0], [0.0, 3.0]]])
    masks = torch.tensor([[[1.0, 0.0], [0.0, 0.25]], [[0.0, 0.5], [0.5, 0.0]]])
    torch.testing.assert_close(
        pool_masks(dense_map, masks),
        torch.tensor([[(1 + 2) / 1.25, 0.75 / 1.25], [3.0, 0.5]]),
    )
    torch.testing.assert_close(
        pool_masks(dense_map, masks, 'any'), torch.tensor([[4.5, 1.5], [3.0, 0.5]])
    )


def test_boxes_move_with_the_picture() -> None:
    boxes = torch.tensor([[0.0, 0.5, 1.0, 1.0]])
    placed = boxes_on_canvas(boxes, (0.25, 0.0, 0.75, 1.0))
    torch.testing.assert_close(placed, torch.tensor([[0.0, 0.25, 0.5, 0.75, 1.0]]))


def test_box_pooling_of_whole_tokens() -> None:
    dense_map = torch.arange(16.0).view(1, 4, 4)
    boxed, _ = pool_image(
        dense_map, torch.tensor([[0, 0.25, 0.25, 0.75, 0.75]]), torch.ones(1, 4, 4), OURS
    )
    assert boxed.tolist() == [[pytest.approx((5 + 6 + 9 + 10) / 4)]]


def test_scores_by_hand() -> None:
    text = torch.eye(3)
    boxes = torch.tensor([[1.0, 0.5, 0], [0, 1, 0.5], [0.5, 0, 1], [0.9, 1, 0]])
    masks = torch.eye(3)[[0, 1, 2, 0]]
    labels = [torch.tensor([0, 0]), torch.tensor([], dtype=torch.long), torch.tensor([2, 0])]
    things = np.array([True, True, False])
    scores = score_regions(RegionFeatures(boxes, masks), labels, things, text, topk=(1, 2))
    values = {key: score.value for key, score in scores.items()}
    assert values['boxes_top1'] == pytest.approx(2 / 4)
    assert values['boxes_top2'] == pytest.approx(3 / 4)  # the second ranks 1, 2, 0
    assert values['boxes_things_class_top1'] == pytest.approx(1 / 3)
    assert values['boxes_stuff_class_top1'] == 1
    assert values['boxes_class_top1'] == pytest.approx((1 / 3 + 1) / 2)  # class 1 is absent
    assert values['masks_top1'] == pytest.approx(3 / 4)
    np.testing.assert_allclose(scores['masks_top1'].per_image, [0.5, np.nan, 1])


def test_text_head_stands_between() -> None:
    head = TextHead(torch.zeros(2), torch.ones(2), torch.tensor([[0.0, 1], [1, 0]]), torch.zeros(2))
    features = RegionFeatures(torch.eye(2), torch.eye(2))
    args = ([torch.tensor([0, 1])], np.array([True, True]), torch.eye(2))
    assert score_regions(features, *args)['boxes_top1'].value == 1
    assert score_regions(features, *args, text_head=head)['boxes_top1'].value == 0
