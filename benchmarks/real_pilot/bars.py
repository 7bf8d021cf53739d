"""The bars of the pilot on real photos: what must rise, against what, and by how much."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

FROZEN = 'frozen, layer 12'
LAYER_10 = 'frozen, layer 10'
REFINER = 'Refiner'
CONTROL = 'Refiner, no-crop control'
R_SC_V = 'R-SC-V'
RLA = 'RLA'
SC_RLA = 'RLA + SCD'
R_SC_RLA = 'RLA + R-SCD'
CROP_MEAN = 'crop, mean token'
ROI_MEAN = 'RoI, head of the mean token'
ROI_CLS = 'RoI, head of the embedding'


@dataclass(frozen=True)
class Bar:
    """A claim about one run, or about the difference of two runs on the same images.

    Attributes:
        name: Its number.
        run: What is measured.
        against: What is subtracted; None for an absolute value.
        at_least: Lowest value per measure.
        at_most: Highest value per measure.
        each_seed: Every seed must pass, not only the mean over seeds.
        enforced: A bar that is only reported never fails the run.
    """

    name: str
    run: str
    against: str | None
    at_least: Mapping[str, float]
    at_most: Mapping[str, float]
    each_seed: bool = False
    enforced: bool = True


BARS = (
    Bar('B1', REFINER, FROZEN, {'auc': 0.010, 'gk': 0.018, 'knn': 0.035, 'ridge': 0.018}, {}),
    Bar('B2', REFINER, CONTROL, {'auc': 0.004, 'knn': 0.012, 'ridge': 0.015}, {}),
    Bar('B3', R_SC_V, FROZEN, {'auc': 0.008, 'knn': 0.020, 'ridge': 0.025}, {}),
    Bar('B4', SC_RLA, RLA, {'auc': 0.010, 'imk': 0.012}, {}, each_seed=True),
    Bar('B5', R_SC_RLA, RLA, {'auc': 0.015}, {}, each_seed=True),
    Bar('B6', RLA, None, {'box': 0.14}, {}, each_seed=True),
    Bar('B7', CROP_MEAN, ROI_MEAN, {'things': 0.08}, {}),
    Bar('B7', ROI_CLS, None, {}, {'things': 0.06}),
    Bar('B9', R_SC_RLA, SC_RLA, {'auc': 0.0}, {}, enforced=False),
)


@dataclass(frozen=True)
class Verdict:
    """One measure of one bar.

    Attributes:
        bar: The bar.
        measure: The measure.
        values: Its value for each seed (one value where no seed plays a part).
        limit: The threshold.
        upper: The threshold is an upper one.
        passed: Whether the values hold.
    """

    bar: Bar
    measure: str
    values: tuple[float, ...]
    limit: float
    upper: bool
    passed: bool


def judge(bar: Bar, values: Mapping[str, Sequence[float]]) -> list[Verdict]:
    """Hold values against a bar.

    Args:
        bar: The bar.
        values: Measure -> value for each seed.
    """
    verdicts = []
    limits = [(m, v, False) for m, v in bar.at_least.items()]
    limits += [(m, v, True) for m, v in bar.at_most.items()]
    for measure, limit, upper in limits:
        seen = tuple(values[measure])
        judged = seen if bar.each_seed else (sum(seen) / len(seen),)
        # A NaN compares false, so a measure that could not be taken fails.
        passed = all((v <= limit) if upper else (v >= limit) for v in judged)
        verdicts.append(Verdict(bar, measure, seen, limit, upper, passed))
    return verdicts
