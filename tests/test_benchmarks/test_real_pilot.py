"""The judging and the tables of benchmarks/real_pilot; its run itself takes half an hour."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

pytest.importorskip('sklearn', reason='the measures need scikit-learn')

MODULES = ('bars', 'measures', 'report', 'length_tables', 'length_figures')


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


def test_curves_over_the_length_of_alignment(pilot: dict[str, ModuleType], tmp_path: Path) -> None:
    """Made scores: RLA loses .1 of every spatial measure, R-SC-RLA keeps it; boxes are level."""
    from refineclip.evaluation import ImageScores

    bars, tables, figures = (pilot[name] for name in ('bars', 'length_tables', 'length_figures'))

    def scores(box: float, spatial: float) -> dict[str, ImageScores]:
        spread = np.linspace(-0.01, 0.01, 10)
        return {
            name: ImageScores.from_values((box if 'box' in name else spatial) + spread)
            for name in tables.MEASURES
        }

    steps, both = (16, 32), (0, 1)
    seeds = {bars.RLA: both, bars.SC_RLA: (1,), bars.R_SC_RLA: both}
    found = {tables.FROZEN: scores(0.1, 0.5)}
    for seed in both:
        found[tables.row_name(bars.REFINER, seed, 0)] = scores(0.1, 0.6)
        found[tables.row_name(bars.RLA, seed, 32, 0.5)] = scores(0.2, 0.45)
        for run in seeds:
            loss = 0.1 if run == bars.RLA else 0.0
            found[tables.row_name(run, seed, 16)] = scores(0.2, 0.5 - loss / 2)
            found[tables.row_name(run, seed, 32)] = scores(0.3, 0.5 - loss)
    results = json.loads(json.dumps(tables.collect(found, seeds, steps, [0.5])))
    lines = tables.verdict_table(results).splitlines()[2:]
    assert all(line.endswith('| 2 of 2 |') for line in lines)
    assert lines[1] == ('| auc: R-SC-RLA at or above RLA | +0.100±0.000, +0.100±0.000 | 2 of 2 |')
    page = tables.markdown(results)
    row = next(line for line in page.splitlines() if line.startswith('| RLA, 2 seeds | 32 |'))
    assert row.split(' | ')[2:4] == ['0.300', '0.300']
    figures.write(results, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {'front.png', 'length.png'}
