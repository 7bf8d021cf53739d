from __future__ import annotations

import numpy as np
import pytest
import torch

from refineclip.evaluation.regions.accuracy import region_accuracy

# Classes: 0 and 1 are things, 2 is stuff, 3 never occurs.
LOGITS = torch.tensor(
    [
        [0.9, 0.1, 0.0, 0.0],  # class 0, right
        [0.5, 0.4, 0.3, 0.9],  # class 0, second
        [0.9, 0.5, 0.1, 0.0],  # class 0, right
        [0.1, 0.0, 0.9, 0.5],  # class 1, last
        [0.1, 0.5, 0.2, 0.9],  # class 2, third
        [0.1, 0.5, 0.6, 0.2],  # class 2, right
    ]
)
LABELS = torch.tensor([0, 0, 0, 1, 2, 2])
IMAGES = np.array([0, 0, 1, 1, 1, 3])
THINGS = np.array([True, True, False, True])


def test_accuracies_by_hand() -> None:
    result = region_accuracy(LOGITS, LABELS, IMAGES, 4, THINGS, topk=(1, 2))
    values = {name: score.value for name, score in result.scores.items()}
    assert values == {
        'top1': pytest.approx(3 / 6),
        'top2': pytest.approx(4 / 6),
        'things_top1': pytest.approx(2 / 4),
        'things_top2': pytest.approx(3 / 4),
        'stuff_top1': pytest.approx(1 / 2),
        'stuff_top2': pytest.approx(1 / 2),
        'class_top1': pytest.approx((2 / 3 + 0 + 1 / 2) / 3),
        'class_top2': pytest.approx((1 + 0 + 1 / 2) / 3),
        'things_class_top1': pytest.approx((2 / 3 + 0) / 2),
        'things_class_top2': pytest.approx((1 + 0) / 2),
        'stuff_class_top1': pytest.approx(1 / 2),
        'stuff_class_top2': pytest.approx(1 / 2),
    }
    np.testing.assert_allclose(result.per_class['top1'], [2 / 3, 0, 1 / 2, np.nan])
    np.testing.assert_allclose(result.scores['top1'].per_image, [0.5, 1 / 3, np.nan, 1])


def test_more_k_than_classes() -> None:
    assert region_accuracy(LOGITS, LABELS, IMAGES, 4, topk=(5,)).scores['top5'].value == 1


def test_without_groups() -> None:
    assert set(region_accuracy(LOGITS, LABELS, IMAGES, 4).scores) == {
        'top1',
        'top5',
        'class_top1',
        'class_top5',
    }


def test_no_region_is_no_number() -> None:
    result = region_accuracy(LOGITS[:0], LABELS[:0], IMAGES[:0], 4)
    assert np.isnan(result.scores['top1'].value)
    assert np.isnan(result.per_class['top1']).all()


def test_inputs_are_checked() -> None:
    with pytest.raises(ValueError, match='R labels'):
        region_accuracy(LOGITS, LABELS[:2], IMAGES, 4)
    with pytest.raises(ValueError, match=r'labels in \[0, 4\), got 1\.\.4'):
        region_accuracy(LOGITS[:2], torch.tensor([1, 4]), IMAGES[:2], 4)
