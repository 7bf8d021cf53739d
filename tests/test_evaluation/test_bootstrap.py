from __future__ import annotations

import numpy as np
import pytest

from refineclip.evaluation.bootstrap import ImageScores, paired_bootstrap


def test_mean_over_images_leaves_nan_out() -> None:
    scores = ImageScores.from_values([0.2, float('nan'), 0.6])
    assert scores.value == pytest.approx(0.4)
    assert scores.num_images == 3
    np.testing.assert_allclose(scores.per_image, [0.2, np.nan, 0.6])


def test_accuracy_pools_decisions_over_images() -> None:
    scores = ImageScores.from_hits(np.array([1, 1, 1, 0]), np.array([0, 0, 0, 2]), 3)
    assert scores.value == pytest.approx(0.75)  # not the mean of 1 and 0
    np.testing.assert_allclose(scores.per_image, [1, np.nan, 0])


def test_cells_are_averaged_and_empty_ones_left_out() -> None:
    scores = ImageScores(
        np.array([[1.0, 0.0, 0.0], [1.0, 1.0, 0.0]]), np.array([[2.0, 1.0, 0.0], [2.0, 3.0, 0.0]])
    )
    assert scores.value == pytest.approx((2 / 4 + 1 / 4) / 2)


def test_resample_by_counts() -> None:
    scores = ImageScores.from_values([0.0, 1.0])
    np.testing.assert_allclose(scores.resample(np.array([[3.0, 1.0], [0.0, 2.0]])), [0.25, 1.0])
    assert np.isnan(ImageScores.from_values([float('nan')]).value)


def test_standard_error_of_a_mean() -> None:
    generator = np.random.default_rng(0)
    noise = generator.normal(0.1, 1.0, 400)
    base = generator.normal(0, 50.0, 400)  # common to both sides: pairing cancels it
    difference = paired_bootstrap(
        ImageScores.from_values(base + noise), ImageScores.from_values(base)
    )
    assert difference.value == pytest.approx(noise.mean())
    assert difference.se == pytest.approx(noise.std() / 20, rel=0.1)
    assert difference.low == pytest.approx(noise.mean() - 1.96 * noise.std() / 20, abs=0.02)
    assert difference.high == pytest.approx(noise.mean() + 1.96 * noise.std() / 20, abs=0.02)


def test_same_scores_have_no_difference_and_seeds_repeat() -> None:
    scores = ImageScores.from_values(np.random.default_rng(1).normal(size=20))
    assert paired_bootstrap(scores, scores).se == 0
    other = ImageScores.from_values(np.random.default_rng(2).normal(size=20))
    assert paired_bootstrap(scores, other) == paired_bootstrap(scores, other)
    assert paired_bootstrap(scores, other).se != paired_bootstrap(scores, other, seed=1).se


def test_mismatches_are_refused() -> None:
    with pytest.raises(ValueError, match='same images'):
        paired_bootstrap(ImageScores.from_values([1.0]), ImageScores.from_values([1.0, 2.0]))
    with pytest.raises(ValueError, match='one shape'):
        ImageScores(np.zeros(2), np.zeros(3))


def test_what_cannot_be_resampled_is_refused() -> None:
    one, two = ImageScores.from_values([0.5]), ImageScores.from_values([0.5, float('nan')])
    with pytest.raises(ValueError, match='two or more images to resample, got 1'):
        paired_bootstrap(one, one)
    nothing = ImageScores.from_values([float('nan')] * 2)
    with pytest.raises(ValueError, match='measures that are defined'):
        paired_bootstrap(two, nothing)


def test_resamples_without_a_defined_cell_are_left_out() -> None:
    # Half of the pairs of draws miss the only image with a value.
    few = ImageScores.from_values([0.5, float('nan')])
    other = ImageScores.from_values([0.25, float('nan')])
    found = paired_bootstrap(few, other)
    assert (found.value, found.low, found.high) == pytest.approx((0.25, 0.25, 0.25))
    assert found.se == 0
