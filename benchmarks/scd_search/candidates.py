"""What is searched, and the rule that picks. Committed before the first run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

SPATIAL = ('auc', 'imk', 'gk', 'knn', 'ridge')
SEEDS = (0, 1)

# Name -> every key of SCDLoss that decides form and strength, so that no default plays a part.
_PLAIN = dict(normalize='none', detach_keys=False)
_MINMAX = dict(normalize='minmax', detach_keys=True)
_SOFT = dict(student_temperature=0.2, teacher_temperature=0.2)
_SHARP = dict(student_temperature=0.1, teacher_temperature=0.1)
CANDIDATES: dict[str, dict[str, Any]] = {
    'plain, tau .1, weight 1': {**_PLAIN, **_SHARP, 'loss_weight': 1.0},
    'min-max, tau .2, weight .4': {**_MINMAX, **_SOFT, 'loss_weight': 0.4},
    'min-max, tau .2, weight 1': {**_MINMAX, **_SOFT, 'loss_weight': 1.0},
    'plain, tau .2, weight 1': {**_PLAIN, **_SOFT, 'loss_weight': 1.0},
    'min-max, tau .2, weight .2': {**_MINMAX, **_SOFT, 'loss_weight': 0.2},
    'min-max, tau .2, weight .4, keys with gradient': {
        **_MINMAX,
        **_SOFT,
        'detach_keys': False,
        'loss_weight': 0.4,
    },
}
# What is searched at three times the length, in the form that the search of 48 steps picked.
LONG_CANDIDATES = ('min-max, tau .2, weight .4', 'min-max, tau .2, weight 1')

# Measure -> (difference to RLA, its standard error), of each seed.
Differences = Mapping[str, Sequence[tuple[float, float]]]


def mean_difference(of_seeds: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Mean over seeds of difference and standard error.

    The images are the same for every seed, so the error of the mean is hardly below that of one.
    """
    values, errors = zip(*of_seeds, strict=True)
    return sum(values) / len(values), sum(errors) / len(errors)


def gains(differences: Mapping[str, Differences]) -> dict[str, float]:
    """Mean standardised spatial gain over RLA of each candidate.

    Each measure is divided by the mean of its standard error over all candidates, so that a
    candidate near RLA, whose own errors are small, has no advantage.
    """
    scale = {
        measure: sum(mean_difference(one[measure])[1] for one in differences.values())
        / len(differences)
        for measure in SPATIAL
    }
    return {
        name: sum(mean_difference(one[m])[0] / scale[m] for m in SPATIAL) / len(SPATIAL)
        for name, one in differences.items()
    }


def admissible(differences: Mapping[str, Differences], region: str) -> list[str]:
    """Candidates whose region accuracy is at most one standard error below RLA's."""
    found = []
    for name, one in differences.items():
        value, error = mean_difference(one[region])
        if value >= -error:
            found.append(name)
    return found


def pick(differences: Mapping[str, Differences], region: str) -> str:
    """The admissible candidate with the largest gain.

    If none is admissible, the one that loses the fewest standard errors of region accuracy.

    Args:
        differences: Candidate -> measure -> (difference to RLA of the same seed, its standard
            error) of each seed.
        region: Name of the measure of region accuracy.
    """

    def loss(name: str) -> float:
        value, error = mean_difference(differences[name][region])
        return -value / error

    allowed = admissible(differences, region)
    if not allowed:
        return min(differences, key=loss)
    of_all = gains(differences)
    return max(allowed, key=of_all.__getitem__)
