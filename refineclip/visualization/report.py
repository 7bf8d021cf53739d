"""A report in one html file: text, tables and pictures, no script, nothing to load."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field
from html import escape
from pathlib import Path
from typing import Any, Protocol

import matplotlib.figure

from refineclip.encoders.weights.whole_files import write_whole

from .report_style import STYLE
from .style import png_bytes

ALIGNMENTS = {'l': 'left', 'r': 'right', 'c': 'center'}
# Figures are drawn at twice the size that the page gives them, for screens of fine pixels.
_DPI, _CSS_DPI = 192, 96


class Block(Protocol):
    """A part of a section."""

    def html(self) -> str:
        """The part as html, every text escaped."""
        ...


@dataclass(frozen=True)
class Paragraph:
    """Running text.

    Attributes:
        text: Plain text; blank lines separate paragraphs, other line breaks are spaces.
        strong: Set it off from the rest, e.g. for a warning.
    """

    text: str
    strong: bool = False

    def html(self) -> str:
        """One ``<p>`` per paragraph."""
        mark = ' class="strong"' if self.strong else ''
        parts = [part.strip() for part in self.text.split('\n\n') if part.strip()]
        return '\n'.join(f'<p{mark}>{escape(part)}</p>' for part in parts)


@dataclass(frozen=True)
class Table:
    """Rows of cells.

    Attributes:
        columns: Heads.
        rows: Cells, as text or anything that ``str`` turns into it; one per column.
        caption: Text above the table.
        align: One of ``l``, ``r``, ``c`` per column; by default the first is left, the others
            right.

    Raises:
        ValueError: If a row or ``align`` has another length than ``columns``.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]
    caption: str = ''
    align: str | None = None

    def __post_init__(self) -> None:
        for row in self.rows:
            if len(row) != len(self.columns):
                raise ValueError(
                    f'expected {len(self.columns)} cells per row, got {len(row)}: {list(row)}'
                )
        wrong = self.align is not None and (
            len(self.align) != len(self.columns) or set(self.align) - set(ALIGNMENTS)
        )
        if wrong:
            raise ValueError(
                f'align: expected {len(self.columns)} letters of l, r, c, got {self.align!r}'
            )

    def html(self) -> str:
        """A ``<table>`` that scrolls by itself where the page is narrow."""
        align = self.align or 'l' + 'r' * (len(self.columns) - 1)
        head = self._row('th', self.columns, align, ' scope="col"')
        body = '\n'.join(self._row('td', row, align) for row in self.rows)
        caption = f'<caption>{escape(self.caption)}</caption>\n' if self.caption else ''
        return (
            f'<div class="scroll" tabindex="0"><table>\n{caption}<thead>{head}</thead>\n'
            f'<tbody>\n{body}\n</tbody></table></div>'
        )

    @staticmethod
    def _row(tag: str, cells: Sequence[Any], align: str, attributes: str = '') -> str:
        parts = [
            f'<{tag}{attributes} class="{ALIGNMENTS[side]}">{escape(str(cell))}</{tag}>'
            for cell, side in zip(cells, align, strict=True)
        ]
        return f'<tr>{"".join(parts)}</tr>'


@dataclass(frozen=True)
class Figure:
    """A picture.

    Attributes:
        figure: A matplotlib figure, or a PNG file.
        alt: What it shows, in words, for those who do not see it.
        caption: Text under it.

    Raises:
        ValueError: Without ``alt``, or if the file is no PNG.
        FileNotFoundError: If there is no such file.
    """

    figure: matplotlib.figure.Figure | str | Path
    alt: str
    caption: str = ''

    def __post_init__(self) -> None:
        if not self.alt.strip():
            raise ValueError('alt: expected what the figure shows in words, got nothing')
        if not isinstance(self.figure, matplotlib.figure.Figure):
            path = Path(self.figure)
            if not path.is_file():
                raise FileNotFoundError(f'expected a PNG file, got {path}, which is no file')
            if not path.read_bytes().startswith(b'\x89PNG\r\n\x1a\n'):
                raise ValueError(f'expected a PNG file, got another kind: {path}')

    def html(self) -> str:
        """A ``<figure>`` with the picture in it as base64."""
        size = ''
        if isinstance(self.figure, matplotlib.figure.Figure):
            data = png_bytes(self.figure, _DPI)
            width, height = (round(side * _CSS_DPI) for side in self.figure.get_size_inches())
            size = f' width="{width}" height="{height}"'
        else:
            data = Path(self.figure).read_bytes()
        source = f'data:image/png;base64,{base64.b64encode(data).decode("ascii")}'
        caption = f'<figcaption>{escape(self.caption)}</figcaption>' if self.caption else ''
        return f'<figure><img src="{source}" alt="{escape(self.alt)}"{size}>{caption}</figure>'


@dataclass(frozen=True)
class Folded:
    """Parts that open on a click on their title, for those who want more.

    Attributes:
        title: What is seen before.
        blocks: The parts.
    """

    title: str
    blocks: Sequence[Block]

    def html(self) -> str:
        """A ``<details>``."""
        body = '\n'.join(block.html() for block in self.blocks)
        return f'<details>\n<summary>{escape(self.title)}</summary>\n{body}\n</details>'


@dataclass(frozen=True)
class Section:
    """A heading and what stands under it.

    Attributes:
        title: The heading.
        blocks: :class:`Paragraph`, :class:`Table`, :class:`Figure` and :class:`Folded` in order.
    """

    title: str
    blocks: Sequence[Block] = field(default_factory=tuple)


def write_report(
    path: str | Path, title: str, sections: Sequence[Section], lead: Sequence[Block] = ()
) -> Path:
    """Write sections as one self-contained html file, whole or not at all.

    Pictures are inside the file, there is no script and no request to anywhere; it is light or dark
    as the reader's system is. All text is escaped.

    Args:
        path: The file, ``.html``; folders are made.
        title: Head of the page.
        sections: Listed in a table of contents if there are two or more.
        lead: What stands above the table of contents: the first screen.

    Returns:
        The path.

    Raises:
        ValueError: If the name does not end in ``.html`` or there is no section.
    """
    path = Path(path)
    if path.suffix.lower() not in ('.html', '.htm'):
        raise ValueError(f'expected a file name that ends in .html, got {path}')
    if not sections:
        raise ValueError('expected one or more sections, got none')
    page = _page(title, sections, lead)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, lambda temporary: temporary.write_text(page, encoding='utf-8'))
    return path


def _page(title: str, sections: Sequence[Section], lead: Sequence[Block]) -> str:
    contents = ''
    if len(sections) > 1:
        links = ''.join(
            f'<li><a href="#section-{number}">{escape(section.title)}</a></li>'
            for number, section in enumerate(sections, 1)
        )
        contents = f'<nav aria-label="Contents"><ol>{links}</ol></nav>\n'
    first = ''.join(f'{block.html()}\n' for block in lead)
    body = '\n'.join(
        f'<section id="section-{number}">\n<h2>{escape(section.title)}</h2>\n'
        + '\n'.join(block.html() for block in section.blocks)
        + '\n</section>'
        for number, section in enumerate(sections, 1)
    )
    # The empty icon keeps browsers from asking a server for one.
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n<link rel="icon" href="data:,">\n'
        f'<title>{escape(title)}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n'
        f'<h1>{escape(title)}</h1>\n{first}{contents}{body}\n</main>\n</body>\n</html>\n'
    )
