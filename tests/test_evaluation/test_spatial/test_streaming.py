"""Measures of images that pass one by one equal those of all tokens at once."""

from __future__ import annotations

from pathlib import Path
from unittest import mock

import numpy as np
import pytest
import torch
from torch.nn.functional import normalize, one_hot

from refineclip.datasets.coco_panoptic import CocoPanoptic
from refineclip.evaluation import PanopticEvaluation, load_encoders
from refineclip.evaluation.feature_store import FeatureStore
from refineclip.evaluation.spatial import streaming
from refineclip.evaluation.spatial.clusters import DatasetClusters
from refineclip.evaluation.spatial.linear_probe import LinearProbe
from refineclip.evaluation.spatial.token_measure import TokenSample, score_tokens

from ..test_feature_store import SPECS, TOWER
from ..toy_panoptic import PATCH, preprocessor, write_coco


@pytest.fixture
def evaluation(tmp_path: Path) -> PanopticEvaluation:
    return PanopticEvaluation(
        CocoPanoptic(write_coco(tmp_path / 'coco', 6)), preprocessor('squash'), PATCH
    )


@pytest.mark.parametrize('held', ['in memory', 'on disk', 'nowhere'])
def test_equals_all_tokens_at_once(
    evaluation: PanopticEvaluation, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, held: str
) -> None:
    if held != 'in memory':
        monkeypatch.setattr(streaming, 'KEPT_BYTES', 0)
    encoders = load_encoders(SPECS, TOWER)
    expected = {n: evaluation.spatial_scores(m) for n, m in evaluation.maps_of(encoders).items()}
    computed = mock.Mock(wraps=evaluation.maps_of_image)
    monkeypatch.setattr(evaluation, 'maps_of_image', computed)
    store = FeatureStore(tmp_path / 'cache' if held == 'on disk' else None)
    with mock.patch.object(streaming, 'print_log') as log:
        found = streaming.stream_spatial_scores(evaluation, encoders, store=store)
    assert computed.call_count == (12 if held == 'nowhere' else 6)
    assert log.call_count == (held != 'in memory')
    for name, scores in expected.items():
        for measure, one in scores.items():
            np.testing.assert_allclose(found[name][measure].numerator, one.numerator, err_msg=name)
            np.testing.assert_array_equal(found[name][measure].denominator, one.denominator)


def test_clusters_found_on_some_tokens_are_given_to_all() -> None:
    labels = [np.arange(40) % 4 for _ in range(6)]
    tokens = [
        normalize(4 * torch.eye(4)[torch.from_numpy(x)] + torch.randn(40, 4), dim=1) for x in labels
    ]
    best = []
    for max_tokens in (240, 60):
        measure = DatasetClusters(labels, 4, num_inits=8, max_tokens=max_tokens)
        scores = score_tokens(measure, tokens)
        assert measure.counts.sum() == 8 * 240
        # A lone start may merge two clusters.
        iou = (scores.numerator.sum(0) / scores.denominator.sum(0)).reshape(8, 4).mean(1)
        best.append(iou.max())
    assert best == pytest.approx([best[0]] * 2, abs=0.02)


def test_a_sample_is_what_indexing_all_tokens_gives() -> None:
    counts, tokens = np.array([3, 0, 4]), torch.randn(7, 2)
    drawn = np.array([6, 0, 4, 2])
    sample = TokenSample(drawn, counts)
    for index, part in enumerate(tokens.split(counts.tolist())):
        sample.add(index, part)
    torch.testing.assert_close(sample.tokens, tokens[drawn])


def test_sums_far_from_zero_keep_their_spread() -> None:
    # A channel whose mean is a thousand times its deviation, as outlier channels of CLIP.
    labels = [np.arange(60) % 3 for _ in range(5)]
    tokens = [torch.randn(60, 8) + one_hot(torch.from_numpy(x), 8) for x in labels]
    expected = score_tokens(LinearProbe(labels), tokens)
    moved = score_tokens(LinearProbe(labels), [one.double() + 1000 for one in tokens])
    np.testing.assert_array_equal(moved.numerator, expected.numerator)
