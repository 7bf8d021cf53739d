"""Region accuracy against spatial quality: which rows are better at both."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from .panels import text_height, wrap_text
from .style import INK, LABEL, SMALL, SOFT, clean_axes, series_style

# A value with the ends of its interval.
Span = tuple[float, float, float]
Point = tuple[float, float]
_WIDTH, _AXES = 7.2, 3.6  # inches
_DOTS = (0, (1, 1.5))


def front_figure(
    rows: Mapping[str, tuple[Span, Span]],
    titles: tuple[str, str],
    caption: str = '',
    rival: tuple[str, Sequence[Point]] | None = None,
    paths: Mapping[str, Sequence[Point]] | None = None,
) -> Figure:
    """Draw rows as points with their intervals; up and to the right is better.

    Args:
        rows: Name -> its value across and its value upwards, each with the ends of its interval.
        titles: Names of the axes, across and upwards.
        caption: Text under the axes.
        rival: Name and points of a curve to be held against.
        paths: Name -> points that lead to the row of that name, for instance over its training.

    Returns:
        The figure.
    """
    names = [*rows, *([rival[0]] if rival else [])]
    text = wrap_text(caption, _WIDTH - 0.24, SMALL) if caption else ''
    legend = 0.22 * -(-len(names) // 3) + 0.1
    bottom = 0.12 + text_height(text, SMALL) + 0.1 + legend + 0.5
    height = _AXES + bottom + 0.15
    figure = Figure(figsize=(_WIDTH, height))
    axes = figure.add_axes(
        (0.75 / _WIDTH, bottom / height, (_WIDTH - 0.95) / _WIDTH, _AXES / height)
    )
    clean_axes(axes)
    axes.set_xlabel(titles[0], fontsize=LABEL, color=INK)
    axes.set_ylabel(titles[1], fontsize=LABEL, color=INK)
    handles = []
    if rival:
        x, y = zip(*rival[1], strict=True)
        handles += axes.plot(
            x, y, color=SOFT, linestyle=_DOTS, marker='x', markersize=5, label=rival[0]
        )
    for order, (name, spans) in enumerate(rows.items()):
        handles.append(_draw_row(axes, name, spans, (paths or {}).get(name, ()), order))
    figure.legend(
        handles=[*handles[1:], handles[0]] if rival else handles,
        loc='lower left',
        bbox_to_anchor=(0.6 / _WIDTH, (bottom - 0.5 - legend) / height),
        ncols=3,
        fontsize=LABEL,
        frameon=False,
        labelcolor=INK,
    )
    if text:
        figure.text(0.12 / _WIDTH, 0.08 / height, text, fontsize=SMALL, color=SOFT, va='bottom')
    return figure


def _draw_row(
    axes: Axes, name: str, spans: tuple[Span, Span], path: Sequence[Point], order: int
) -> Line2D:
    colour, marker = series_style(order)
    if path:
        axes.plot(*zip(*path, strict=True), color=colour, marker=marker, markersize=3.5)
    (x, left, right), (y, low, high) = spans
    bars = [[x - left], [right - x]], [[y - low], [high - y]]
    axes.errorbar(x, y, xerr=bars[0], yerr=bars[1], color=colour, linewidth=1.3, capsize=0)
    axes.plot(x, y, color=colour, marker=marker, markersize=9, markeredgecolor='white')
    return Line2D([], [], color=colour, marker=marker, linestyle='', markersize=7, label=name)
