"""Scalars that training runs logged, over their iterations."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure

from .panels import text_height, wrap_text
from .style import INK, LABEL, SMALL, SOFT, TITLE, clean_axes, series_style


def read_scalars(path: str | Path) -> dict[str, list[tuple[int, float]]]:
    """Read what a run logged.

    Args:
        path: ``vis_data/scalars.json`` of a run: one json object per line.

    Returns:
        Scalar -> (step, value) in the order of the file; of a step logged twice, as after a resume,
        the later.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If a line is no json object, or no line has a step.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f'expected vis_data/scalars.json of a run, got {path}')
    found: dict[str, dict[int, float]] = {}
    for number, line in enumerate(path.read_text(encoding='utf-8').splitlines(), 1):
        if not line.strip():
            continue
        try:
            entry = json.loads(line)
        except json.JSONDecodeError as error:
            raise ValueError(f'{path}:{number}: expected a json object, got {error}') from error
        if not isinstance(entry, dict) or 'step' not in entry:
            continue
        for key, value in entry.items():
            if key not in ('step', 'iter', 'epoch') and isinstance(value, int | float):
                found.setdefault(key, {})[int(entry['step'])] = float(value)
    if not found:
        raise ValueError(f'{path}: expected lines with a step and scalars, got none')
    return {key: sorted(values.items()) for key, values in found.items()}


def training_curves_figure(
    runs: Mapping[str, Mapping[str, Sequence[tuple[int, float]]]],
    keys: Sequence[str],
    caption: str = '',
) -> Figure:
    """Draw scalars over iterations, one panel per scalar, one line per run.

    Args:
        runs: Run -> what :func:`read_scalars` returned.
        keys: Scalars to draw.
        caption: Text under the panels.

    Returns:
        The figure.

    Raises:
        ValueError: If no run has one of the scalars.
    """
    have = {key for own in runs.values() for key in own}
    if unknown := [key for key in keys if key not in have]:
        raise ValueError(f'expected some of {sorted(have)}, got {unknown}')
    panel, body = 3.3, 2.2
    width = 0.15 + panel * len(keys)
    text = wrap_text(caption, width - 0.24, SMALL) if caption else ''
    legend = 0.3 * -(-len(runs) // max(1, int(width / 2)))
    bottom = 0.55 + legend + text_height(text, SMALL) + (0.1 if caption else 0.0)
    height = bottom + body + 0.35
    figure = Figure(figsize=(width, height))
    lines = {}
    for column, key in enumerate(keys):
        left = (0.62 + column * panel) / width
        axes = figure.add_axes((left, bottom / height, (panel - 0.78) / width, body / height))
        clean_axes(axes)
        axes.set_title(key, fontsize=TITLE, color=INK)
        axes.set_xlabel('iteration', fontsize=LABEL, color=INK)
        axes.locator_params(nbins=5)
        for order, (name, own) in enumerate(runs.items()):
            if key not in own:
                continue
            colour, marker = series_style(order)
            steps, values = zip(*own[key], strict=True)
            few = max(1, len(steps) // 8)
            (lines[name],) = axes.plot(
                steps,
                values,
                color=colour,
                marker=marker,
                markevery=few,
                markersize=4.5,
                label=name,
            )
    figure.legend(
        handles=list(lines.values()),
        loc='lower center',
        bbox_to_anchor=(0.5, (bottom - 0.5 - legend) / height),
        ncols=max(1, int(width / 2)),
        fontsize=LABEL,
        labelcolor=INK,
        frameon=False,
        borderpad=0,
    )
    if text:
        figure.text(0.12 / width, 0.06 / height, text, fontsize=SMALL, color=SOFT, va='bottom')
    return figure
