"""Difference of two rows that were trained with several seeds, with a 95 % interval."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import t as student_t

from .bootstrap import ImageScores, paired_bootstrap


@dataclass(frozen=True)
class Interval:
    """A difference and its 95 % interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f'{self.value:+.3f} [{self.low:+.3f}, {self.high:+.3f}]'


def compare(own: Sequence[ImageScores], other: Sequence[ImageScores]) -> Interval:
    """Difference of one measure between two rows.

    One seed: the 95 % interval of a paired bootstrap over images. Several seeds: mean of the
    differences, and at either end the wider of the mean bootstrap interval and the t interval over
    the seeds.

    Args:
        own: Scores of each seed, or one if no seed changes the row.
        other: The same of the row to subtract.

    Raises:
        ValueError: If both rows have several, not equally many seeds.
    """
    count = max(len(own), len(other))
    if any(len(side) not in (1, count) for side in (own, other)):
        raise ValueError(f'expected as many seeds on both sides, got {len(own)} and {len(other)}')
    pairs = [
        paired_bootstrap(own[i if len(own) > 1 else 0], other[i if len(other) > 1 else 0])
        for i in range(count)
    ]
    values = np.array([pair.value for pair in pairs])
    mean = float(values.mean())
    low, high = (float(np.mean([getattr(p, end) for p in pairs])) for end in ('low', 'high'))
    if count > 1:
        half = float(student_t.ppf(0.975, count - 1) * values.std(ddof=1) / math.sqrt(count))
        low, high = min(low, mean - half), max(high, mean + half)
    return Interval(mean, low, high)
