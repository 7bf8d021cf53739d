"""Intervals of differences over seeds, on numbers made by hand."""

from __future__ import annotations

import numpy as np
import pytest

from refineclip.evaluation.bootstrap import ImageScores
from refineclip.evaluation.seeds import Interval, compare


def scores(value: float, spread: float = 0.01) -> ImageScores:
    """Forty images around a value; equal spreads move together, so that differences are exact."""
    return ImageScores.from_values(value + spread * np.sin(np.arange(40)))


def test_as_text():
    assert str(Interval(0.1, -0.05, 0.2)) == '+0.100 [-0.050, +0.200]'


def test_interval_of_several_seeds_is_the_wider_one():
    # Differences of .1, .2 and .3 without noise over images: t(.975, 2) = 4.303 and
    # sd / sqrt(3) = .05774 give a half width of .2484.
    own = [scores(value) for value in (0.6, 0.7, 0.8)]
    found = compare(own, [scores(0.5)])
    assert found.value == pytest.approx(0.2)
    assert (found.low, found.high) == pytest.approx((0.2 - 0.2484, 0.2 + 0.2484), abs=1e-4)
    # Equal seeds: what is left is the noise over images, and it is not zero.
    noisy = [scores(0.6, spread=-0.1)] * 3
    alone = compare(noisy[:1], [scores(0.5)])
    assert compare(noisy, [scores(0.5)]).low == pytest.approx(alone.low)
    assert alone.high - alone.low > 0.02


def test_unequal_numbers_of_seeds_are_refused():
    with pytest.raises(ValueError, match='as many seeds on both sides, got 2 and 3'):
        compare([scores(0.1)] * 2, [scores(0.1)] * 3)
