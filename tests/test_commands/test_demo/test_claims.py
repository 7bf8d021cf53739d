"""The verdicts of the demo, on numbers made by hand."""

from __future__ import annotations

import numpy as np
import pytest

from refineclip.commands.demo import claims
from refineclip.commands.demo.claims import FAILS, HOLDS, NOISE, Comparison, Interval
from refineclip.evaluation.bootstrap import ImageScores

MEASURES = ('boxes_class_top1', 'crops_class_top1', 'gk', 'auc', 'imk', 'knn', 'ridge')


def scores(value: float, spread: float = 0.01) -> ImageScores:
    """Forty images around a value; equal spreads move together, so that differences are exact."""
    return ImageScores.from_values(value + spread * np.sin(np.arange(40)))


def world(**changes: dict[str, float]) -> dict[str, list[dict[str, ImageScores]]]:
    """Rows in which every claim holds, with changes by row and measure."""
    regions = {'frozen CLIP': 0.3, 'Refiner': 0.3, 'RLA': 0.7, 'SC-RLA': 0.68, 'R-SC-RLA': 0.75}
    spatial = {'frozen CLIP': 0.5, 'Refiner': 0.6, 'RLA': 0.4, 'SC-RLA': 0.55, 'R-SC-RLA': 0.65}
    rows = {}
    for row, region in regions.items():
        values = dict.fromkeys(MEASURES, spatial[row])
        values |= {'boxes_class_top1': region, 'crops_class_top1': 0.8}
        rows[row] = values
    for row, value in (('no context', 0.5), ('1 context', 0.5), ('most contexts', 0.6)):
        rows[row] = dict.fromkeys(MEASURES, value)
    for row, values in changes.items():
        rows[row.replace('_', '-') if row != 'frozen' else 'frozen CLIP'].update(values)
    return {row: [{k: scores(v) for k, v in values.items()}] for row, values in rows.items()}


def verdicts(rows: dict) -> dict[str, str]:
    return {one.claim.name: one.verdict for one in claims.judge(rows)}


def test_all_hold_where_all_comparisons_do():
    assert verdicts(world()) == dict.fromkeys(('C1', 'C2', 'C3', 'C4', 'C5'), HOLDS)


@pytest.mark.parametrize(
    ('claim', 'changes'),
    [
        ('C1', {'frozen': {'crops_class_top1': 0.35}}),  # .05 above boxes, .1 are asked for
        ('C2', {'RLA': {'gk': 0.52}}),  # alignment does no harm
        ('C3', {'SC_RLA': {'gk': 0.45}}),  # above RLA, .05 below CLIP
        ('C3', {'SC_RLA': {'boxes_class_top1': 0.6}}),  # .1 of accuracy lost
        ('C4', {'Refiner': {'gk': 0.45}}),
        ('C4', {'R_SC_RLA': {'boxes_class_top1': 0.69}}),  # RLA is better at regions
    ],
)
def test_a_claim_fails_by_its_worst_comparison(claim, changes):
    found = verdicts(world(**changes))
    assert found[claim] == FAILS


def test_measures_beside_decide_nothing():
    rows = world(RLA={'knn': 0.9, 'ridge': 0.9, 'auc': 0.9, 'imk': 0.9})
    judged = {one.claim.name: one for one in claims.judge(rows)}
    assert judged['C2'].verdict == HOLDS
    assert {verdict for _, _, verdict in judged['C2'].beside} == {FAILS}
    comparison, interval, _ = judged['C2'].beside[0]
    assert str(comparison) == 'auc: frozen CLIP - RLA > 0'
    assert interval.value == pytest.approx(-0.4)
    assert 'auc' not in judged['C2'].sentence


def test_within_noise_when_images_disagree():
    rows = world()
    rows['RLA'][0]['gk'] = scores(0.499, spread=-0.2)
    found = {one.claim.name: one for one in claims.judge(rows)}['C2']
    assert found.verdict == NOISE
    assert found.sentence.startswith('C2 within noise: RLA raises region accuracy and lowers')


def test_thresholds_are_compared_with_the_ends_of_the_interval():
    one = Comparison('a', 'b', 'gk', limit=-0.05)
    assert one.judge(Interval(0.0, -0.049, 0.1)) == HOLDS
    assert one.judge(Interval(0.0, -0.051, 0.1)) == NOISE
    assert one.judge(Interval(-0.1, -0.2, -0.051)) == FAILS
