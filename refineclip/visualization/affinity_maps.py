"""Which tokens a model takes for kin of one chosen token."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from numpy.typing import NDArray

from .panels import panel_grid
from .pictures import Maps, Picture, as_map, check_maps, to_picture, tokens_of
from .style import INK, SMALL

Point = tuple[float, float]
COLOURS = colormaps['cividis']  # looked up once: every look-up is a copy without its table
_BAR = 0.5  # inches under the panels for the colour bar


def token_index(point: Point, grid: tuple[int, int]) -> tuple[int, int]:
    """Row and column of the token that shows a point.

    Args:
        point: x and y in [0, 1] of the image, from its upper left corner.
        grid: Rows and columns of the map.

    Raises:
        ValueError: If the point is outside the image.
    """
    x, y = point
    if not (0 <= x <= 1 and 0 <= y <= 1):
        raise ValueError(f'expected a point x, y in [0, 1] of the image, got {point}')
    return min(int(y * grid[0]), grid[0] - 1), min(int(x * grid[1]), grid[1] - 1)


def affinity(
    dense: torch.Tensor, point: Point, source: torch.Tensor | None = None
) -> NDArray[np.float32]:
    """Cosine in [-1, 1] of every token to the one at a point, (h, w); map is (D, h, w).

    Args:
        dense: The map.
        point: x and y in [0, 1].
        source: Map of another image that the point lies in; None is the map itself.
    """
    source = dense if source is None else source
    height, width = as_map(source).shape[1:]
    row, column = token_index(point, (height, width))
    token = tokens_of(source)[row * width + column]
    return (tokens_of(dense) @ token).reshape(as_map(dense).shape[1:]).numpy()


def cosine_limits(cosines: Sequence[NDArray[np.float32]]) -> Normalize:
    """One range of colours for several maps: 1st percentile of all to 1."""
    values = np.concatenate([one.ravel() for one in cosines])
    return Normalize(float(np.percentile(values, 1)), 1.0)


def cosine_colours(values: NDArray[np.float32], limits: Normalize) -> Picture:
    """Colours (h, w, 3) of a map (h, w), as the figures show it."""
    return COLOURS(limits(values), bytes=True)[..., :3]


def affinity_figure(
    images: Sequence[Any],
    maps: Maps,
    points: Point | Sequence[Point],
    shared_range: bool = True,
    caption: str | None = None,
    source: int | None = None,
) -> Figure:
    """Draw cosines to a chosen token: one row per image, the image and then a column per model.

    Args:
        images: Whatever :func:`~refineclip.visualization.pictures.to_picture` takes.
        maps: Model -> one map (D, h, w) or (1, D, h, w) per image.
        points: x and y in [0, 1] of the image, one pair for all images or one per image.
        shared_range: Colour all panels by one range, 1st percentile to 1, so that contrast
            compares between models. False stretches each panel to its own range.
        caption: Text under the panels; says what they show if None.
        source: Index of the image whose token all images are compared with; None takes a token of
            each image itself.

    Returns:
        The figure; the marked token is the one whose cosine is 1.

    Raises:
        ValueError: If maps do not fit the images, or a point or ``source`` lies outside.
    """
    check_maps(maps, len(images))
    if source is not None and not 0 <= source < len(images):
        raise ValueError(f'source: expected an image in [0, {len(images) - 1}], got {source}')
    chosen = _points(points, len(images))
    pictures = [to_picture(image) for image in images]
    cosines = [
        {
            name: affinity(own[row], point, None if source is None else own[source])
            for name, own in maps.items()
        }
        for row, point in enumerate(chosen)
    ]
    limits = cosine_limits([one for line in cosines for one in line.values()])
    if caption is None:
        caption = 'Cosine of every token to the marked one; brighter is more alike. ' + (
            'One range for all panels.'
            if shared_range
            else 'Each panel is stretched to its own range, printed in it.'
        )
    aspects = [picture.shape[0] / picture.shape[1] for picture in pictures]
    footer = _BAR if shared_range else 0.0
    figure, grid = panel_grid(aspects, ['image', *maps], caption, footer=footer)
    for index, (line, picture, row) in enumerate(zip(grid, pictures, cosines, strict=True)):
        point = chosen[index] if source in (None, index) else None
        _show_image(line[0], picture, point, next(iter(row.values())).shape)
        for axes, cosine in zip(line[1:], row.values(), strict=True):
            _show_cosine(axes, cosine, point, limits if shared_range else None)
    if shared_range:
        _colour_bar(figure, grid[-1][0], limits)
    return figure


def _points(points: Point | Sequence[Point], count: int) -> list[Point]:
    array = np.asarray(points, dtype=float)
    if array.shape == (2,):
        array = np.tile(array, (count, 1))
    if array.shape != (count, 2):
        raise ValueError(
            f'expected one point x, y or one per image ({count}), got shape {array.shape}'
        )
    return [(float(x), float(y)) for x, y in array]


def _show_image(axes: Axes, picture: Picture, point: Point | None, grid: tuple[int, ...]) -> None:
    """Show the picture with the token's own square, if the token is in it."""
    axes.imshow(picture, aspect='auto', extent=(0, grid[1], grid[0], 0))
    if point is not None:
        _mark(axes, point, grid)


def _show_cosine(
    axes: Axes, cosine: NDArray[np.float32], point: Point | None, limits: Normalize | None
) -> None:
    grid = cosine.shape
    norm = limits or Normalize(float(cosine.min()), float(cosine.max()))
    extent = (0, grid[1], grid[0], 0)
    axes.imshow(
        cosine, cmap=COLOURS, norm=norm, aspect='auto', interpolation='nearest', extent=extent
    )
    if point is not None:
        _mark(axes, point, grid)
    if limits is None:
        label = f'{cosine.min():.2f} to {cosine.max():.2f}'
        axes.text(
            0.98,
            0.02,
            label,
            transform=axes.transAxes,
            ha='right',
            va='bottom',
            fontsize=SMALL,
            color=INK,
            bbox=dict(facecolor='white', edgecolor='none', alpha=0.85, pad=2),
        )


def _mark(axes: Axes, point: Point, grid: tuple[int, ...]) -> None:
    """A square around the token, white on black so that it shows on any colour."""
    row, column = token_index(point, (grid[0], grid[1]))
    x, y = [column, column + 1, column + 1, column], [row, row, row + 1, row + 1]
    for colour, width in (('black', 3.6), ('white', 1.6)):
        axes.fill(x, y, facecolor='none', edgecolor=colour, linewidth=width, clip_on=False)


def _colour_bar(figure: Figure, panel: Axes, limits: Normalize) -> None:
    """Put a bar right under the panels."""
    across, up = figure.get_size_inches()
    width = min(3.5, across - 0.6)
    base = panel.get_position().y0 - 0.22 / up
    bar = figure.add_axes(((across - width) / 2 / across, base, width / across, 0.11 / up))
    shown = figure.colorbar(ScalarMappable(limits, COLOURS), cax=bar, orientation='horizontal')
    shown.outline.set_visible(False)
    bar.tick_params(labelsize=SMALL, colors=INK)
    bar.set_xlabel('cosine', fontsize=SMALL, color=INK, labelpad=1)
