"""The curve of training-free refining, one panel per measure."""

from __future__ import annotations

from collections.abc import Mapping

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from .context_curve import RefiningCurve
from .panels import text_height, wrap_text
from .style import INK, LABEL, SMALL, SOFT, TITLE, clean_axes, series_style

_HEIGHT = 2.7  # inches of the axes


def refining_curve_figure(
    curve: RefiningCurve, titles: Mapping[str, str] | None = None, caption: str | None = None
) -> Figure:
    """Draw measures over the number of contexts.

    Args:
        curve: What :func:`~refineclip.visualization.context_curve.refining_curve` measured.
        titles: Measure -> title of its panel; its key if it lacks one.
        caption: Text under the panels; says what they show if None.

    Returns:
        The figure: lines are means over draws, bands their least and largest, the dashed line is
        the image encoded alone.
    """
    measures = list(curve.alone)
    draws = next(iter(next(iter(curve.values.values())).values())).shape[0]
    if caption is None:
        caption = (
            'Tokens of an image averaged over N canvases, each with one context image beside it. '
            f'Mean of {draws} draws of sides and random contexts, band from least to largest; '
            'dashed: the image alone, N = 0. Grey: canvases with the mean colour, no content.'
        )
    panel = 4.8 if len(measures) == 1 else 3.6
    width = 0.1 + panel * len(measures)
    text = wrap_text(caption, width - 0.24, SMALL)
    entries = 1 + len(next(iter(curve.values.values())))
    columns = 3 if width > 6.5 else 2
    legend = 0.22 * -(-entries // columns) + 0.1
    bottom = 0.12 + text_height(text, SMALL) + 0.1 + legend + 0.5
    height = _HEIGHT + bottom + 0.35
    figure = Figure(figsize=(width, height))
    for column, measure in enumerate(measures):
        left = (0.65 + column * panel) / width
        box = (left, bottom / height, (panel - 0.75) / width, _HEIGHT / height)
        _draw_measure(figure.add_axes(box), curve, measure, (titles or {}).get(measure, measure))
    figure.legend(
        handles=_handles(curve),
        loc='lower left',
        bbox_to_anchor=(0.08 / width, (bottom - 0.5 - legend) / height),
        ncols=columns,
        fontsize=LABEL,
        frameon=False,
        labelcolor=INK,
        columnspacing=1.4,
    )
    figure.text(0.12 / width, 0.08 / height, text, fontsize=SMALL, color=SOFT, va='bottom')
    return figure


def _draw_measure(axes: Axes, curve: RefiningCurve, measure: str, title: str) -> None:
    clean_axes(axes)
    axes.axhline(curve.alone[measure], color=INK, linestyle=(0, (5, 3)), linewidth=1.2)
    for order, values in enumerate(curve.values[measure].values()):
        colour, marker = series_style(order)
        axes.fill_between(
            curve.counts, values.min(0), values.max(0), color=colour, alpha=0.16, linewidth=0
        )
        axes.plot(
            curve.counts, values.mean(0), color=colour, marker=marker, markersize=5, linewidth=1.6
        )
    axes.set_xscale('log', base=2)
    axes.set_xticks(curve.counts, [str(count) for count in curve.counts])
    axes.minorticks_off()
    axes.set_xlabel('contexts N', fontsize=LABEL, color=INK)
    axes.set_title(title, fontsize=TITLE, color=INK)


def _handles(curve: RefiningCurve) -> list[Line2D]:
    dashed = Line2D([], [], color=INK, linestyle=(0, (5, 3)), linewidth=1.2, label='image alone')
    handles = [dashed]
    for order, choice in enumerate(next(iter(curve.values.values()))):
        colour, marker = series_style(order)
        label = choice if choice == 'grey' else f'{choice} (cos {curve.similarity[choice]:.2f})'
        handles.append(Line2D([], [], color=colour, marker=marker, markersize=5, label=label))
    return handles
