"""The judging and the tables of benchmarks/real_pilot; its run itself takes half an hour."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

pytest.importorskip('sklearn', reason='the measures need scikit-learn')

MODULES = ('bars', 'measures', 'report')


@pytest.fixture
def pilot(repo_root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, ModuleType]]:
    """Import the benchmark's files as a run of the script sees them."""
    monkeypatch.syspath_prepend(str(repo_root / 'benchmarks' / 'real_pilot'))
    with monkeypatch.context():
        yield {name: importlib.import_module(name) for name in MODULES}


def test_mean_of_seeds_or_each_seed(pilot: dict[str, ModuleType]) -> None:
    bars = pilot['bars']
    mean = bars.Bar('X', 'a', 'b', {'auc': 0.1}, {})
    each = bars.Bar('X', 'a', 'b', {'auc': 0.1}, {}, each_seed=True)
    values = {'auc': [0.05, 0.2]}
    assert [v.passed for v in bars.judge(mean, values)] == [True]
    assert [v.passed for v in bars.judge(each, values)] == [False]
    assert [v.passed for v in bars.judge(mean, {'auc': [0.05, 0.1]})] == [False]
    assert bars.judge(mean, values)[0].values == (0.05, 0.2)


def test_upper_limits_and_missing_numbers(pilot: dict[str, ModuleType]) -> None:
    bars = pilot['bars']
    upper = bars.Bar('X', 'a', None, {}, {'things': 0.06})
    assert bars.judge(upper, {'things': [0.06]})[0].passed
    assert not bars.judge(upper, {'things': [0.07]})[0].passed
    assert not bars.judge(upper, {'things': [float('nan')]})[0].passed


def test_report_of_made_scores(pilot: dict[str, ModuleType]) -> None:
    bars, report = pilot['bars'], pilot['report']
    from refineclip.evaluation import ImageScores

    def scores(shift: float) -> dict[str, ImageScores]:
        base = np.linspace(0.2, 0.4, 10) + shift
        names = (*report.SPATIAL, *report.REGIONS, 'box top-5')
        return {name: ImageScores.from_values(base) for name in names}

    fixed = {name: scores(0) for name in (bars.FROZEN, bars.LAYER_10, *report.CROP_ROWS)}
    gains = {bars.REFINER: 0.05, bars.R_SC_V: 0.05, bars.SC_RLA: 0.05, bars.R_SC_RLA: 0.05}
    trained = {
        run: [scores(gains.get(run, 0.0)), scores(gains.get(run, 0.0) + 0.01)]
        for run in (bars.REFINER, bars.CONTROL, bars.R_SC_V, bars.RLA, bars.SC_RLA, bars.R_SC_RLA)
    }
    results = report.collect(fixed, trained, [3, 4])
    passed = {(v['name'], v['run'], v['measure']): v['passed'] for v in results['bars']}
    assert all(passed[key] for key in passed if key[0] in ('B1', 'B2', 'B3', 'B4', 'B5', 'B6'))
    # Crops and regions of interest score alike here, far above what B7 allows.
    assert not passed['B7', bars.CROP_MEAN, 'things']
    assert not passed['B7', bars.ROI_CLS, 'things']
    first = next(d for d in results['differences'] if d['run'] == bars.REFINER)
    assert first['against'] == bars.FROZEN
    assert first['measures']['auc']['value'] == pytest.approx(0.05)
    results |= {
        'initial_cosine': [0.83, 0.83],
        'seconds': {'a': 1.0},
        'environment': report.environment(2),
        'command': 'python run.py',
    }
    page = report.markdown(results)
    assert (
        '| B1 | Refiner - frozen, layer 12 | auc >= 0.010 | mean | +0.050, +0.060 | holds |' in page
    )
    assert '| RLA | 4 | 0.3100 |' in page
    assert '| Refiner | 3 | +0.050+-0.000 |' in page
