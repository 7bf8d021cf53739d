"""Grids of picture panels, aligned to the point: one row per image, one column per model."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .style import INK, LABEL, SMALL, SOFT, TITLE

_MARGIN, _GAP = 0.12, 0.07  # inches
_LINE = 1.35 / 72  # inches of a line per point of type
_CHARACTER = 0.56 / 72  # inches of a character per point of type, measured on DejaVu Sans


def wrap_text(text: str, inches: float, size: float) -> str:
    """Break a text into lines of at most ``inches`` at a type size in points."""
    return textwrap.fill(text, max(8, int(inches / (_CHARACTER * size))))


def text_height(text: str, size: float) -> float:
    """Inches of a text of one or more lines; 0 for none."""
    return (text.count('\n') + 1) * _LINE * size if text else 0.0


def panel_grid(
    aspects: Sequence[float],
    columns: Sequence[str],
    caption: str = '',
    panel: float | None = None,
    row_labels: Sequence[str] = (),
    footer: float = 0.0,
) -> tuple[Figure, list[list[Axes]]]:
    """Lay out empty panels.

    Args:
        aspects: Height over width of the panels of each row.
        columns: Head of each column.
        caption: Text under the panels, broken into lines.
        panel: Width of a panel in inches; if None, chosen so that the figure is up to 11 inches
            wide and no row is higher than 3 inches.
        row_labels: Text to the left of each row; none if empty.
        footer: Inches left free between the panels and the caption, for a legend or a colour bar.

    Returns:
        The figure and its axes [row][column], without ticks.
    """
    width = panel or min(2.6, max(1.5, 10.5 / len(columns)), 3.0 / max(aspects))
    left = _MARGIN + (_LINE * LABEL + 0.05 if row_labels else 0.0)
    total_width = left + len(columns) * (width + _GAP) - _GAP + _MARGIN
    heads = [wrap_text(head, width, TITLE) for head in columns]
    caption = wrap_text(caption, total_width - 2 * _MARGIN, SMALL) if caption else ''
    top = _MARGIN / 2 + max(text_height(head, TITLE) for head in heads) + 0.05
    bottom = _MARGIN + text_height(caption, SMALL) + footer + (0.08 if caption else 0.0)
    rows = [width * aspect for aspect in aspects]
    total_height = top + sum(rows) + _GAP * (len(rows) - 1) + bottom
    figure = Figure(figsize=(total_width, total_height))
    grid, edge = [], total_height - top
    for height in rows:
        edge -= height
        grid.append(
            [
                _panel(figure, left + column * (width + _GAP), edge, width, height)
                for column in range(len(columns))
            ]
        )
        edge -= _GAP
    for axes, head in zip(grid[0], heads, strict=True):
        axes.set_title(head, fontsize=TITLE, color=INK, pad=4)
    for line, label in zip(grid, row_labels, strict=False):
        line[0].set_ylabel(label, fontsize=LABEL, color=INK, labelpad=4)
    if caption:
        figure.text(
            _MARGIN / total_width,
            _MARGIN / 2 / total_height,
            caption,
            fontsize=SMALL,
            color=SOFT,
            va='bottom',
        )
    return figure, grid


def _panel(figure: Figure, left: float, bottom: float, width: float, height: float) -> Axes:
    """Add one panel at a place in inches."""
    across, up = figure.get_size_inches()
    axes = figure.add_axes((left / across, bottom / up, width / across, height / up))
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    return axes
