"""Two figures: all measures over steps of alignment, and region accuracy against the map."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from statistics import mean
from typing import Any

import bars
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from refineclip.visualization import front_figure
from refineclip.visualization.front_plot import Span
from refineclip.visualization.style import (
    INK,
    LABEL,
    TITLE,
    clean_axes,
    save_figure,
    series_style,
)

TITLES = {
    'box': 'region accuracy (box)',
    'auc': 'same against different segment (auc)',
    'imk': 'segments of a photo (imk)',
    'gk': 'clusters over all photos (gk)',
    'knn': 'neighbours in other photos (knn)',
    'ridge': 'linear probe (ridge)',
}
NAMES = {bars.RLA: 'RLA', bars.SC_RLA: 'SC-RLA', bars.R_SC_RLA: 'R-SC-RLA'}


def write(results: Mapping[str, Any], folder: Path) -> None:
    """Write ``length.png`` and ``front.png`` into a folder."""
    save_figure(length_figure(results), folder / 'length.png')
    save_figure(front(results), folder / 'front.png')


def _values(results: Mapping[str, Any], run: str, measure: str) -> np.ndarray:
    """(seeds, 1 + steps), the frozen map first."""
    start = results[bars.FROZEN][measure]
    return np.array([[start, *(one[measure] for one in c)] for c in results['curves'][run]])


def length_figure(results: Mapping[str, Any]) -> Figure:
    """One panel a measure: means over seeds, bands from the least to the largest."""
    figure = Figure(figsize=(10.2, 5.9), layout='constrained')
    panels = figure.subplots(2, 3)
    steps = [0, *results['steps']]
    for axes, (measure, title) in zip(panels.flat, TITLES.items(), strict=True):
        clean_axes(axes)
        axes.set_title(title, fontsize=TITLE, color=INK)
        axes.axhline(results[bars.FROZEN][measure], color=INK, linestyle=(0, (5, 3)), linewidth=1.2)
        for order, run in enumerate(results['curves']):
            colour, marker = series_style(order + 1)
            values = _values(results, run, measure)
            axes.fill_between(
                steps, values.min(0), values.max(0), color=colour, alpha=0.16, linewidth=0
            )
            axes.plot(steps, values.mean(0), color=colour, marker=marker, markersize=4.5)
        axes.set_xticks(steps)
    for axes in panels[1]:
        axes.set_xlabel('steps of alignment', fontsize=LABEL, color=INK)
    handles = [
        Line2D([], [], color=series_style(order)[0], marker=series_style(order)[1], label=name)
        for order, name in enumerate(NAMES.values(), 1)
    ]
    handles.append(Line2D([], [], color=INK, linestyle=(0, (5, 3)), label='frozen'))
    figure.legend(
        handles=handles,
        loc='outside lower center',
        ncols=4,
        fontsize=LABEL,
        frameon=False,
        labelcolor=INK,
    )
    return figure


def front(results: Mapping[str, Any], measure: str = 'auc') -> Figure:
    """Region accuracy against a spatial measure: where each method is after the measured steps."""
    start = tuple(results[bars.FROZEN][name] for name in ('box', measure))
    rows: dict[str, tuple[Span, Span]] = {'frozen': tuple((v, v, v) for v in start)}
    paths = {}
    shown = {run: NAMES[run] for run in results['curves']}
    for run, name in shown.items():
        steps = [_values(results, run, one).mean(0) for one in ('box', measure)]
        paths[name] = list(zip(*steps, strict=True))
        away = results['differences'][f'{run} - {bars.FROZEN}']
        half = [1.96 * mean(d['se'] for d in away[one]) for one in ('box', measure)]
        rows[name] = tuple((v, v - h, v + h) for v, h in zip(paths[name][-1], half, strict=True))
    blends = [
        tuple(mean(one[name] for one in of_seeds) for name in ('box', measure))
        for _, of_seeds in sorted(results['blends'].items(), key=lambda item: float(item[0]))
    ]
    steps, count = ', '.join(map(str, results['steps'])), len(results['seeds'][bars.RLA])
    return front_figure(
        rows,
        (TITLES['box'], TITLES[measure]),
        f'70 photos of val2017, means of {count} seeds; small points: after {steps} '
        'steps. Bars: 95 % intervals of the difference to the frozen map. Up and to the right is '
        'better.',
        ('RLA blended with the original', [start, *blends, paths['RLA'][-1]]),
        paths,
    )
