"""Measures of several models as dots with intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping

from matplotlib.figure import Figure

from .panels import text_height, wrap_text
from .style import INK, LABEL, SMALL, SOFT, TITLE, clean_axes, series_style

Value = float | tuple[float, float, float]
_CHARACTER = 0.075  # inches of a character of a row's name


def metric_figure(
    rows: Mapping[str, Mapping[str, Value]],
    titles: Mapping[str, str] | None = None,
    caption: str = '',
) -> Figure:
    """Draw measures side by side, one panel per measure, one line per model.

    Args:
        rows: Model -> measure -> value, or (value, low, high). A measure that a model lacks, or
            that is NaN, leaves its line empty.
        titles: Measure -> title of its panel; its key if it lacks one.
        caption: Text under the panels, e.g. what the intervals are.

    Returns:
        The figure. Panels have ranges of their own that do not begin at zero: compare positions.

    Raises:
        ValueError: Without a model or a measure.
    """
    measures = list(dict.fromkeys(key for own in rows.values() for key in own))
    if not measures:
        raise ValueError('expected models with measures, got none')
    names = 0.35 + _CHARACTER * max(len(name) for name in rows)
    panel = min(2.4, max(1.5, (10.5 - names) / len(measures)))
    width = names + panel * len(measures)
    text = wrap_text(caption, width - 0.24, SMALL) if caption else ''
    bottom = 0.4 + text_height(text, SMALL) + (0.1 if caption else 0.0)
    body = 0.3 * len(rows) + 0.15
    heads = [wrap_text((titles or {}).get(key, key), panel - 0.2, TITLE) for key in measures]
    height = bottom + body + max(text_height(head, TITLE) for head in heads) + 0.15
    figure = Figure(figsize=(width, height))
    for column, (measure, head) in enumerate(zip(measures, heads, strict=True)):
        left = (names + column * panel) / width
        axes = figure.add_axes((left, bottom / height, (panel - 0.22) / width, body / height))
        clean_axes(axes)
        axes.set_title(head, fontsize=TITLE, color=INK)
        axes.set_ylim(len(rows) - 0.5, -0.5)
        axes.set_yticks(range(len(rows)), list(rows) if column == 0 else [''] * len(rows))
        axes.tick_params(axis='y', length=0, labelsize=LABEL, labelcolor=INK)
        axes.locator_params(axis='x', nbins=4)
        for line, own in enumerate(rows.values()):
            value = own.get(measure, math.nan)
            centre, low, high = value if isinstance(value, tuple) else (value, value, value)
            if math.isnan(centre):
                continue
            colour, marker = series_style(line)
            axes.plot([low, high], [line, line], color=colour, linewidth=2, alpha=0.55)
            axes.plot(centre, line, color=colour, marker=marker, markersize=7)
    if text:
        figure.text(0.12 / width, 0.06 / height, text, fontsize=SMALL, color=SOFT, va='bottom')
    return figure
