from __future__ import annotations

import numpy as np
import pytest

from refineclip.evaluation.spatial.patch_labels import axis_coverage, map_labels, patch_segments


def test_axis_coverage_splits_pixels() -> None:
    # Three pixels, two cells of 1.5 pixels: the middle pixel belongs to both by half.
    np.testing.assert_allclose(axis_coverage(3, 2), [[2 / 3, 1 / 3, 0], [0, 1 / 3, 2 / 3]])
    # Two pixels, four cells: every cell lies in one pixel.
    np.testing.assert_allclose(axis_coverage(2, 4), [[1, 0], [1, 0], [0, 1], [0, 1]])


def test_majority_of_each_token() -> None:
    ids = np.array([[5, 5, 7, 7], [5, 7, 7, 7], [0, 0, 7, 9], [0, 5, 8, 6]])
    # Token by token: three of four 5; four 7; three of four 0; four different.
    assert patch_segments(ids, (2, 2)).tolist() == [5, 7, 0, 0]


def test_exactly_half_counts_and_less_does_not() -> None:
    ids = np.array([[5, 5, 0, 0]])
    assert patch_segments(ids, (1, 1)).tolist() == [5]
    assert patch_segments(ids, (1, 1), min_coverage=0.51).tolist() == [0]


def test_rows_come_first() -> None:
    ids = np.array([[1, 2, 3], [4, 5, 6]])
    assert patch_segments(ids, (2, 3)).tolist() == [1, 2, 3, 4, 5, 6]


def test_agrees_with_counting_pixels_on_a_divisible_map() -> None:
    ids = np.random.default_rng(0).integers(0, 3, (12, 20))
    found = patch_segments(ids, (3, 5))
    for index, cell in enumerate(
        ids.reshape(3, 4, 5, 4).transpose(0, 2, 1, 3).reshape(15, 16)  # 4 x 4 pixels per token
    ):
        counts = np.bincount(cell, minlength=3)
        winner = 1 + int(counts[1:].argmax())
        assert found[index] == (winner if counts[winner] >= 8 else 0)


@pytest.mark.parametrize('coverage', [0.0, 1.5])
def test_impossible_coverage(coverage: float) -> None:
    with pytest.raises(ValueError, match='min_coverage'):
        patch_segments(np.ones((2, 2), dtype=int), (1, 1), coverage)


def test_wrong_shape() -> None:
    with pytest.raises(ValueError, match=r'\(H, W\)'):
        patch_segments(np.ones((2, 2, 3), dtype=int), (1, 1))


def test_map_labels() -> None:
    assert map_labels(np.array([5, 0, 7, 9]), {5: 0, 7: 132}).tolist() == [0, -1, 132, -1]
