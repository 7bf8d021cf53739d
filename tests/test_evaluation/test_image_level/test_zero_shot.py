from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from refineclip.evaluation import ImageScores, bootstrap, paired_bootstrap
from refineclip.evaluation.image_level.zero_shot import ClassMeanScores, zero_shot_accuracy
from refineclip.evaluation.regions.accuracy import region_accuracy
from refineclip.evaluation.regions.class_texts import class_texts

TEXT = torch.eye(3)


def test_numbers_by_hand():
    features = torch.tensor([[9.0, 0, 1], [0, 2, 0], [1, 2, 0], [0, 1, 2], [3, 1, 2]])
    labels = np.array([0, 1, 0, 2, 1])
    result = zero_shot_accuracy(features, labels, TEXT, topk=(1, 2, 5))
    # Best classes: 0, 1, 1, 2, 0; second: 2, -, 0, 1, 2.
    assert result.scores['top1'].value == pytest.approx(3 / 5)
    assert result.scores['class_top1'].value == pytest.approx((1 / 2 + 1 / 2 + 1) / 3)
    assert result.scores['top2'].value == pytest.approx(4 / 5)
    np.testing.assert_allclose(result.per_class['top1'], [0.5, 0.5, 1.0])
    assert set(result.scores) == {'top1', 'class_top1', 'top2', 'class_top2'}  # 5 of 3 is no test


def test_absent_classes_are_nan_and_left_out_of_the_mean():
    result = zero_shot_accuracy(torch.tensor([[1.0, 0, 0], [0, 0, 1]]), np.array([0, 1]), TEXT)
    np.testing.assert_array_equal(result.per_class['top1'], [1.0, 0.0, np.nan])
    assert result.scores['class_top1'].value == 0.5


def test_collapsed_features_do_not_score():
    result = zero_shot_accuracy(torch.ones(4, 3), np.array([0, 1, 2, 0]), TEXT)
    assert result.scores['top1'].value == 0


def test_parity_with_top_k_and_with_regions():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(200, 8, generator=generator)
    text = torch.randn(12, 8, generator=generator)
    labels = torch.randint(0, 12, (200,), generator=generator)
    result = zero_shot_accuracy(features, labels.numpy(), text)
    logits = F.normalize(features, dim=1) @ F.normalize(text, dim=1).T
    top5 = (logits.topk(5).indices == labels[:, None]).any(dim=1).float().mean()
    assert result.scores['top5'].value == pytest.approx(top5.item())
    regions = region_accuracy(logits, labels, np.arange(200), 200)
    for key in ('top1', 'top5', 'class_top1', 'class_top5'):
        assert result.scores[key].value == pytest.approx(regions.scores[key].value)
        # The cheap class mean resamples as the one with a cell per class.
        cheap = paired_bootstrap(result.scores[key], ImageScores.from_values(np.zeros(200)), 50)
        dear = paired_bootstrap(regions.scores[key], ImageScores.from_values(np.zeros(200)), 50)
        assert (cheap.low, cheap.high) == pytest.approx((dear.low, dear.high))


def test_class_mean_resamples_in_pieces(monkeypatch):
    from refineclip.evaluation.image_level import zero_shot

    scores = ClassMeanScores(np.array([1.0, 0, 1, 1]), np.ones(4), np.array([2, 0, 0, 2]))
    counts = np.random.default_rng(0).multinomial(4, [0.25] * 4, size=7).astype(float)
    whole = scores.resample(counts)
    monkeypatch.setattr(zero_shot, '_MAX_ELEMENTS', 8)
    np.testing.assert_array_equal(scores.resample(counts), whole)
    # Two of the class of image 1, none of the class of images 0 and 3.
    assert scores.resample(np.array([[0.0, 1, 1, 0]]))[0] == 0.5


@pytest.mark.parametrize(
    ('features', 'labels', 'text', 'message'),
    [
        (torch.ones(2, 4), [0, 1], TEXT, 'one width'),
        (torch.ones(2, 3), [0], TEXT, 'one label per image'),
        (torch.ones(0, 3), [], TEXT, 'at least one image'),
        (torch.ones(2, 3), [0, 3], TEXT, r'labels in \[0, 3\)'),
        (torch.ones(2, 3), [0, 0], TEXT[:1], 'two or more classes'),
        (torch.full((2, 3), torch.nan), [0, 1], TEXT, 'finite image embeddings'),
        (torch.ones(2, 3), [0, 1], TEXT * torch.inf, 'finite text embeddings'),
    ],
)
def test_wrong_input(features, labels, text, message):
    with pytest.raises(ValueError, match=message):
        zero_shot_accuracy(features, np.array(labels, dtype=np.int64), text)


def test_bootstrap_in_parts_draws_what_one_call_would(monkeypatch):
    generator = np.random.default_rng(0)
    a, b = (ImageScores.from_values(generator.random(20)) for _ in range(2))
    whole = paired_bootstrap(a, b, 50)
    monkeypatch.setattr(bootstrap, '_MAX_COUNTS', 7 * 20)
    parts = paired_bootstrap(a, b, 50)
    assert (parts.low, parts.high, parts.se) == pytest.approx((whole.low, whole.high, whole.se))


def test_text_of_regions_is_never_random():
    with pytest.raises(ValueError, match='random text would score at chance'):
        class_texts(('cat', 'dog'), ('cat', 'dog'), model='ViT-B-16')
