"""Values over the length of alignment, and whether the claim holds: data and tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import mean
from typing import Any

import bars
from measures import REGIONS, SPATIAL, Scores
from report import table

from refineclip.evaluation import paired_bootstrap

FROZEN = f'measure {bars.FROZEN}'
MEASURES = ('box', 'box top-5', *REGIONS[1:], *SPATIAL)

# The claim of the paper: region accuracy of alignment, and a map above alignment's and CLIP's.
CLAIM = (
    ('box', bars.RLA),
    ('auc', bars.RLA),
    ('imk', bars.RLA),
    ('auc', bars.FROZEN),
    ('imk', bars.FROZEN),
)


def row_name(run: str, seed: int, steps: int, alpha: float = 1.0) -> str:
    """Name of the step that measures a run after some steps, blended with the original."""
    return f'measure {run}, seed {seed}, {steps} steps, alpha {alpha}'


def collect(
    found: Mapping[str, Scores],
    seeds: Mapping[str, Sequence[int]],
    steps: Sequence[int],
    blends: Sequence[float],
) -> dict[str, Any]:
    """Values of every row and paired differences at the last step.

    Args:
        found: Name of a measuring step -> its scores.
        seeds: Trained student -> its seeds; RLA has all.
        steps: Steps at which they were measured, ascending.
        blends: Shares of the last student of RLA in its blends.
    """

    def values(name: str) -> dict[str, float]:
        return {measure: found[name][measure].value for measure in MEASURES}

    last, all_seeds = steps[-1], seeds[bars.RLA]
    differences = {}
    for index, (run, own) in enumerate(seeds.items()):
        for against in (bars.FROZEN, *list(seeds)[:index]):
            shared = [seed for seed in own if seed in seeds.get(against, own)]
            if not shared:
                continue
            pairs = [
                (
                    found[row_name(run, seed, last)],
                    found[FROZEN if against == bars.FROZEN else row_name(against, seed, last)],
                )
                for seed in shared
            ]
            differences[f'{run} - {against}'] = {
                measure: [vars(paired_bootstrap(a[measure], b[measure])) for a, b in pairs]
                for measure in MEASURES
            }
    return {
        'seeds': {run: list(own) for run, own in seeds.items()},
        'steps': list(steps),
        bars.FROZEN: values(FROZEN),
        bars.REFINER: [values(row_name(bars.REFINER, seed, 0)) for seed in all_seeds],
        'curves': {
            run: [[values(row_name(run, seed, step)) for step in steps] for seed in own]
            for run, own in seeds.items()
            if own
        },
        'blends': {
            str(alpha): [values(row_name(bars.RLA, seed, last, alpha)) for seed in all_seeds]
            for alpha in blends
        },
        'differences': differences,
    }


def value_table(results: Mapping[str, Any]) -> str:
    """Means over seeds of every row."""

    def cells(of_seeds: Sequence[Mapping[str, float]]) -> list[str]:
        return [f'{mean(one[m] for one in of_seeds):.3f}' for m in MEASURES]

    rows = [
        [bars.FROZEN, '0', *cells([results[bars.FROZEN]])],
        [bars.REFINER, '-', *cells(results[bars.REFINER])],
    ]
    for run, of_seeds in results['curves'].items():
        for index, step in enumerate(results['steps']):
            name = f'{run}, {len(of_seeds)} seed{"s"[: len(of_seeds) - 1]}'
            rows.append([name, str(step), *cells([curve[index] for curve in of_seeds])])
    for alpha, of_seeds in results['blends'].items():
        name = f'{bars.RLA}, blended {alpha} with the original'
        rows.append([name, str(results['steps'][-1]), *cells(of_seeds)])
    return table(['map', 'steps', *MEASURES], rows)


def difference_table(results: Mapping[str, Any]) -> str:
    """Paired differences at the last step, of each seed."""
    rows = []
    for name, of_measures in results['differences'].items():
        run, against = name.split(' - ')
        own = [s for s in results['seeds'][run] if s in results['seeds'].get(against, [s])]
        for index, seed in enumerate(own):
            found = [of_measures[measure][index] for measure in MEASURES]
            rows.append([name, str(seed), *(f'{d["value"]:+.3f}±{d["se"]:.3f}' for d in found)])
    return table(['difference', 'seed', *MEASURES], rows)


def verdict_table(results: Mapping[str, Any]) -> str:
    """The claim, comparison by comparison and seed by seed."""
    rows = []
    for measure, against in CLAIM:
        found = results['differences'][f'{bars.R_SC_RLA} - {against}'][measure]
        held = sum(one['value'] >= 0 for one in found)
        cells = ', '.join(f'{one["value"]:+.3f}±{one["se"]:.3f}' for one in found)
        rows.append(
            [f'{measure}: R-SC-RLA at or above {against}', cells, f'{held} of {len(found)}']
        )
    return table(['what', 'difference, of each seed', 'seeds in which it holds'], rows)


def markdown(results: Mapping[str, Any]) -> str:
    """The tables of docs/real_pilot.md."""
    return '\n\n'.join(
        [
            f'### The claim after {results["steps"][-1]} steps\n\n{verdict_table(results)}',
            f'### Means over seeds\n\n{value_table(results)}',
            f'### Differences after {results["steps"][-1]} steps\n\n{difference_table(results)}\n',
        ]
    )
