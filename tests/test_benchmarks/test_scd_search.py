"""The rule of benchmarks/scd_search; its run itself takes half an hour."""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

pytest.importorskip('sklearn', reason='the measures need scikit-learn')


@pytest.fixture
def search(repo_root: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, ModuleType]:
    """Import the benchmark's files as a run of the script sees them."""
    for name in ('real_pilot', 'scd_search'):
        monkeypatch.syspath_prepend(str(repo_root / 'benchmarks' / name))
    return {name: importlib.import_module(name) for name in ('candidates', 'tables')}


def of(box: float, spatial: float, error: float = 0.01) -> dict[str, list[tuple[float, float]]]:
    """Differences of one candidate, the same in both seeds."""
    names = ('auc', 'imk', 'gk', 'knn', 'ridge')
    return {name: [(spatial, error)] * 2 for name in names} | {'box': [(box, 0.02)] * 2}


def test_gain_is_over_one_scale_for_all(search: dict[str, ModuleType]) -> None:
    """Errors .01 and .03: both are divided by .02."""
    found = search['candidates'].gains({'a': of(0, 0.02, 0.01), 'b': of(0, 0.04, 0.03)})
    assert found == pytest.approx({'a': 1.0, 'b': 2.0})


@pytest.mark.parametrize(
    ('boxes', 'expected'),
    [
        ((-0.019, -0.021), 'a'),  # b gains more but is too far from RLA
        ((-0.019, -0.019), 'b'),
        ((-0.08, -0.06), 'b'),  # none is near: the nearest
    ],
)
def test_pick(search: dict[str, ModuleType], boxes: tuple[float, float], expected: str) -> None:
    differences = {'a': of(boxes[0], 0.01), 'b': of(boxes[1], 0.03)}
    assert search['candidates'].pick(differences, 'box') == expected


def test_seeds_are_averaged(search: dict[str, ModuleType]) -> None:
    one: dict[str, Any] = of(0, 0.01)
    one['box'] = [(-0.05, 0.02), (0.02, 0.02)]
    assert search['candidates'].admissible({'a': one}, 'box') == ['a']


def test_candidates_are_losses_that_name_what_they_are(search: dict[str, ModuleType]) -> None:
    """No default of the loss plays a part, so a new default leaves the search as it was."""
    from refineclip.distill.losses import SCDLoss

    for settings in search['candidates'].CANDIDATES.values():
        loss = SCDLoss(**settings)
        told = {**loss.options, 'loss_weight': loss.loss_weight}
        assert told == {**settings, 'divergence': 'ce'}


def test_tables_of_made_scores(search: dict[str, ModuleType]) -> None:
    from refineclip.evaluation import ImageScores

    tables, names = search['tables'], list(search['candidates'].CANDIDATES)[:2]

    def scores(shift: float) -> dict[str, ImageScores]:
        base = np.linspace(0.2, 0.4, 10) ** (1 + shift)
        return {m: ImageScores.from_values(base) for m in ('box', *search['candidates'].SPATIAL)}

    rows = {'frozen': [scores(0)], 'RLA': [scores(0)] * 2}
    rows |= {names[0]: [scores(1)] * 2, names[1]: [scores(-0.5)] * 2}
    results = json.loads(json.dumps({'photos': tables.collect(rows, 'box')}))
    assert results['photos']['pick'] == names[1]
    page = tables.markdown(results)
    assert '### Photos' in page
    assert f'| RLA | {np.linspace(0.2, 0.4, 10).mean():.3f} |' in page
    assert page.count('**picked**') == 1
    assert page.count('too far from RLA') == 1
