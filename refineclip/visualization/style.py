"""How all figures look: type sizes, colours that colour-blind readers can tell, and saving."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from .fonts import complete_fonts

# Points. At the 110 dpi of saved files the smallest is 12 px high.
TITLE, LABEL, SMALL = 10.0, 9.0, 8.0
INK, SOFT = '#1a1a1a', '#595959'
DPI = 110

# Okabe and Ito's palette (Color Universal Design, 2008), yellow darkened to stand on white.
SERIES = ('#0072B2', '#E69F00', '#009E73', '#CC79A7', '#56B4E9', '#D55E00', '#7A6F00', '#000000')
MARKERS = ('o', 's', '^', 'D', 'v', 'P', 'X', '*')

# Areas need more colours than points do, and no black: Okabe and Ito's, then of Paul Tol's muted
# scheme (2021) those that stay apart from them.
AREAS = (
    *('#0072B2', '#E69F00', '#009E73', '#CC79A7', '#56B4E9', '#D55E00', '#F0E442', '#332288'),
    *('#BBBBBB', '#882255', '#117733', '#999933', '#AA4499', '#44AA99', '#DDCC77', '#661100'),
)


def series_style(index: int) -> tuple[str, str]:
    """Colour and marker of a series; together they differ for 64 of them."""
    count = len(SERIES)
    return SERIES[index % count], MARKERS[(index + index // count) % len(MARKERS)]


def area_colours(count: int) -> list[str]:
    """Colours of ``count`` kinds of areas; beyond 16 they repeat."""
    return [AREAS[index % len(AREAS)] for index in range(count)]


def clean_axes(axes: Axes) -> None:
    """Leave only what carries information: two spines and a faint grid."""
    axes.spines[['top', 'right']].set_visible(False)
    axes.spines[['left', 'bottom']].set_color(SOFT)
    axes.tick_params(labelsize=SMALL, colors=SOFT)
    axes.grid(color='#e4e4e4', linewidth=0.7)
    axes.set_axisbelow(True)


def save_figure(figure: Figure, path: str | Path, dpi: int = DPI) -> Path:
    """Write a figure as PNG, PDF or SVG by its suffix; folders are made.

    Raises:
        ValueError: On another suffix.
    """
    path = Path(path)
    known: Sequence[str] = ('.png', '.pdf', '.svg')
    if path.suffix.lower() not in known:
        raise ValueError(f'expected a file name that ends in one of {known}, got {path}')
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix.lower() == '.png':
        path.write_bytes(png_bytes(figure, dpi))
    else:
        with complete_fonts(figure):
            figure.savefig(path, dpi=dpi, facecolor='white')
    return path


def png_bytes(figure: Figure, dpi: int = DPI) -> bytes:
    """Return a figure as a PNG file on white.

    Written by Pillow without alpha and metadata: a sixth smaller than matplotlib's own, and equal
    figures are equal files.
    """
    with complete_fonts(figure), io.BytesIO() as drawn, io.BytesIO() as packed:
        figure.savefig(drawn, format='png', dpi=dpi, facecolor='white')
        with Image.open(drawn) as image:
            image.convert('RGB').save(packed, format='png', optimize=True)
        return packed.getvalue()
