"""Turn scores into results.json and the tables of docs/search.md."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import bars
from candidates import CANDIDATES, SPATIAL, Differences, admissible, gains, mean_difference, pick

from refineclip.evaluation import paired_bootstrap
from refineclip.evaluation.bootstrap import ImageScores

FROZEN = 'frozen'

# Row -> measure -> scores, of each seed; the frozen encoder has one.
Rows = Mapping[str, list[Mapping[str, ImageScores]]]


def collect(rows: Rows, region: str) -> dict[str, Any]:
    """Values, differences to RLA and the pick of one world, as JSON-like data.

    Args:
        rows: Scores of ``frozen``, ``RLA`` and the candidates.
        region: Name of the measure of region accuracy.
    """
    measures = (region, *SPATIAL)
    values = {
        row: [{m: scores[m].value for m in measures} for scores in of_seeds]
        for row, of_seeds in rows.items()
    }
    differences: dict[str, Differences] = {
        name: {m: _to_rla(rows, name, m) for m in measures} for name in CANDIDATES if name in rows
    }
    return {
        'region': region,
        'values': values,
        'differences_to_rla': differences,
        'gains': gains(differences),
        'admissible': admissible(differences, region),
        'pick': pick(differences, region),
    }


def _to_rla(rows: Rows, name: str, measure: str) -> list[tuple[float, float]]:
    pairs = zip(rows[name], rows[bars.RLA], strict=True)
    found = (paired_bootstrap(own[measure], rla[measure]) for own, rla in pairs)
    return [(one.value, one.se) for one in found]


def _row(cells: list[str]) -> str:
    return '| ' + ' | '.join(cells) + ' |'


def value_table(world: Mapping[str, Any]) -> str:
    """Absolute values, mean over seeds; a difference to RLA cannot show what RLA itself did."""
    measures = (world['region'], *SPATIAL)
    lines = [_row(['row', 'boxes', *SPATIAL]), _row(['---'] * (1 + len(measures)))]
    for row, of_seeds in world['values'].items():
        means = [sum(one[m] for one in of_seeds) / len(of_seeds) for m in measures]
        lines.append(_row([row, *(f'{mean:.3f}' for mean in means)]))
    return '\n'.join(lines)


def difference_table(world: Mapping[str, Any]) -> str:
    """Difference to RLA and its standard error, means over seeds; gain and verdict."""
    measures = (world['region'], *SPATIAL)
    header = ['R-SC-RLA with', 'boxes', *SPATIAL, 'gain', '']
    lines = [_row(header), _row(['---'] * len(header))]
    for name, one in world['differences_to_rla'].items():
        cells = ['{:+.3f} ± {:.3f}'.format(*mean_difference(one[m])) for m in measures]
        verdict = '' if name in world['admissible'] else 'too far from RLA'
        verdict = '**picked**' if name == world['pick'] else verdict
        lines.append(_row([name, *cells, f'{world["gains"][name]:+.2f}', verdict]))
    return '\n'.join(lines)


def markdown(results: Mapping[str, Any]) -> str:
    """The tables of docs/search.md."""
    parts = []
    for title, world in results.items():
        parts += [
            f'### {title.capitalize()}',
            f'Values, mean over {len(world["values"][bars.RLA])} seed(s):',
            value_table(world),
            'Differences to RLA, with one standard error:',
            difference_table(world),
        ]
    return '\n\n'.join(parts) + '\n'
