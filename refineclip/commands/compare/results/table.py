"""The one table of a comparison, and who is better at both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from refineclip.evaluation.bootstrap import ImageScores
from refineclip.evaluation.seeds import Interval

# Row -> scores of each seed; rows that no seed changes have one.
Rows = Mapping[str, Sequence[Mapping[str, ImageScores]]]


def mean(scores: Sequence[Mapping[str, ImageScores]], measure: str) -> float:
    """Mean over seeds."""
    return float(np.mean([one[measure].value for one in scores]))


def pareto_front(rows: Rows, axes: tuple[str, str]) -> list[str]:
    """Rows that no other is at least as good as on both axes and better on one, by their means."""
    points = {
        row: tuple(mean(scores, axis) for axis in axes)
        for row, scores in rows.items()
        if all(axis in one for one in scores for axis in axes)
    }
    return not_beaten(points)


def not_beaten(points: Mapping[str, tuple[float, ...]]) -> list[str]:
    """Names of points that no other one dominates."""
    return [
        name
        for name, own in points.items()
        if not any(
            other != own and all(a >= b for a, b in zip(other, own, strict=True))
            for other in points.values()
        )
    ]


def summary(rows: Rows, axes: tuple[str, str], columns: Mapping[str, str], ours: str | None) -> str:
    """Say which rows are better than ours on both axes, by their means."""
    if ours is None or ours not in rows:
        return ''
    own = [mean(rows[ours], axis) for axis in axes]
    better = [
        row
        for row, scores in rows.items()
        if all(
            axis in scores[0] and mean(scores, axis) > value
            for axis, value in zip(axes, own, strict=True)
        )
    ]
    who = f'**{", ".join(better)}**' if better else 'No row'
    verb = 'are' if len(better) > 1 else 'is'
    names = ' and '.join(columns[axis] for axis in axes)
    return f'{who} {verb} better than {ours} on both axes of the front, {names}.'


def markdown_table(
    rows: Rows,
    away: Mapping[str, Mapping[str, Interval]],
    columns: Mapping[str, str],
    axes: tuple[str, str],
) -> str:
    """Lay out the table; each cell has the value, and below it the difference.

    Args:
        rows: Scores.
        away: Differences to the baseline.
        columns: Measure -> head of its column.
        axes: What the front is of.
    """
    front = pareto_front(rows, axes)
    lines = [
        f'| row | {" | ".join(columns.values())} | seeds |',
        f'| --- |{" ---: |" * len(columns)} ---: |',
    ]
    for row, scores in rows.items():
        name = f'{row} *' if row in front else row
        cells = [_cell(scores, away.get(row, {}).get(key), key) for key in columns]
        lines.append(f'| {" | ".join([name, *cells, str(len(scores))])} |')
    return '\n'.join(lines)


def _cell(
    scores: Sequence[Mapping[str, ImageScores]], interval: Interval | None, measure: str
) -> str:
    values = [one[measure].value for one in scores if measure in one]
    if not values or np.isnan(values).any():
        return '-'
    cell = f'{np.mean(values):.3f}'
    if len(values) > 1:
        cell += f' ± {np.std(values, ddof=1):.3f}'
    if interval is None:
        return cell
    sure = interval.low > 0 or interval.high < 0
    return f'{cell}<br>{f"**{interval}**" if sure else interval}'
