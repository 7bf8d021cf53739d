"""Panels and cards of the page as HTML; whatever a user typed is escaped here."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape

import numpy as np
from matplotlib.colors import Normalize
from PIL import Image

from refineclip.visualization import cosine_colours
from refineclip.visualization.affinity_maps import token_index
from refineclip.visualization.pictures import Picture

# Larger pictures are photographs or painted ones, for which JPEG is a tenth of PNG.
PNG_PIXELS = 256 * 256


@dataclass(frozen=True)
class Token:
    """The token that was clicked: the image that it lies in, and x and y in [0, 1] there."""

    image: int
    point: tuple[float, float]


@dataclass(frozen=True)
class Panel:
    """A picture of an image or of its map, to be clicked.

    Attributes:
        colours: (h, w, 3) uint8.
        image: Index of the image.
        grid: Rows and columns of tokens.
        size: Height and width of the image.
        label: What it shows.
    """

    colours: Picture
    image: int
    grid: tuple[int, int]
    size: tuple[int, int]
    label: str = ''


@dataclass
class Card:
    """All panels of one row of encoders, line by line.

    Attributes:
        title: Name of the row.
        note: A word on it, such as the time.
        lines: Panels.
        message: Why there are none, or fewer.
    """

    title: str
    note: str = ''
    lines: list[list[Panel]] = field(default_factory=list)
    message: str = ''


def data_uri(colours: Picture) -> str:
    """An image as an address of its own."""
    image, packed = Image.fromarray(colours), io.BytesIO()
    if image.width * image.height <= PNG_PIXELS:
        image.save(packed, 'png', compress_level=1)
        kind = 'png'
    else:
        image.save(packed, 'jpeg', quality=90)
        kind = 'jpeg'
    return f'data:image/{kind};base64,{base64.b64encode(packed.getvalue()).decode()}'


def panel_html(panel: Panel, token: Token, title: str, keys: bool = False) -> str:
    """One panel with its mark; with ``keys``, arrow keys move the token."""
    (rows, columns), (height, width) = panel.grid, panel.size
    row, column = token_index(token.point, panel.grid)
    hidden = '' if token.image == panel.image else ' hidden'
    place = (
        f'left:{100 * column / columns:.4g}%;top:{100 * row / rows:.4g}%;'
        f'width:{100 / columns:.4g}%;height:{100 / rows:.4g}%'
    )
    name = escape(f'{title}, {panel.label}' if panel.label else title)
    hint = '; click or arrow keys choose a token' if keys else ''
    focus = ' tabindex="0"' if keys else ''
    label = f'<figcaption>{escape(panel.label)}</figcaption>' if panel.label else ''
    return (
        f'<figure class="rc-figure"><div class="rc-panel"{focus} role="img" '
        f'aria-label="{name}{hint}" data-image="{panel.image}" '
        f'data-rows="{rows}" data-columns="{columns}" style="aspect-ratio:{width}/{height}">'
        f'<img src="{data_uri(panel.colours)}" alt="" draggable="false">'
        f'<span class="rc-mark" style="{place}"{hidden}></span>'
        f'<span class="rc-hover" hidden></span>'
        f'</div>{label}</figure>'
    )


def pictures_html(panels: Sequence[Panel], token: Token) -> str:
    """The images of a session."""
    shown = ''.join(panel_html(one, token, 'image', keys=True) for one in panels)
    return f'<div class="rc-pictures">{shown}</div>'


def card_html(card: Card, token: Token) -> str:
    """One card."""
    lines = ''.join(
        f'<div class="rc-line">{"".join(panel_html(one, token, card.title) for one in line)}</div>'
        for line in card.lines
    )
    message = f'<p class="rc-message">{escape(card.message)}</p>' if card.message else ''
    return (
        f'<section class="rc-card"><header><h3>{escape(card.title)}</h3>'
        f'<span>{escape(card.note)}</span></header>{message}{lines}</section>'
    )


def cards_html(cards: Sequence[Card], token: Token, legend: str = '', wide: bool = False) -> str:
    """All cards, and what explains their colours above them; ``wide`` ones hold two images."""
    width = ' rc-wide' if wide else ''
    shown = ''.join(card_html(card, token) for card in cards)
    return f'<div class="rc-board">{legend}<div class="rc-cards{width}">{shown}</div></div>'


def hint_html(text: str) -> str:
    """A sentence in place of cards."""
    return f'<div class="rc-board"><p class="rc-hint">{escape(text)}</p></div>'


def colour_bar(limits: Normalize | None, text: str) -> str:
    """The range of the colours; None says that each panel has its own."""
    low, high = ('least', 'most') if limits is None else (f'{limits.vmin:.2f}', f'{limits.vmax:g}')
    steps = cosine_colours(np.linspace(0, 1, 9, dtype=np.float32)[None], Normalize(0, 1))[0]
    stops = ','.join(f'rgb({r},{g},{b})' for r, g, b in steps)
    return (
        f'<div class="rc-legend"><span>{low}</span><i class="rc-bar" style="background:'
        f'linear-gradient(90deg,{stops})"></i><span>{high}</span><span>{escape(text)}</span></div>'
    )


def word_legend(names: Sequence[str], colours: dict[int, str]) -> str:
    """Names with their colours; those without one occur nowhere."""
    chips = ''.join(
        f'<span class="rc-chip"><i style="background:{colours.get(index, "transparent")}"></i>'
        f'{escape(name)}</span>'
        for index, name in enumerate(names)
    )
    return f'<div class="rc-legend">{chips}</div>'
