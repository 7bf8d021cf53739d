from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import matplotlib.figure
import pytest
from PIL import Image

from refineclip.visualization import save_figure, write_report
from refineclip.visualization.report import Figure, Folded, Paragraph, Section, Table

VOID = {'meta', 'link', 'img'}


class Outline(HTMLParser):
    """Checks that tags are balanced, and collects them and their texts."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def figure() -> matplotlib.figure.Figure:
    made = matplotlib.figure.Figure(figsize=(2, 1))
    made.add_axes((0, 0, 1, 1)).plot([0, 1])
    return made


def test_report(tmp_path: Path) -> None:
    evil = '<script>alert("1")</script> & \'more\''
    png = save_figure(figure(), tmp_path / 'a.png')
    blocks = [
        Paragraph(f'{evil}\n\nsecond'),
        Table(['model', evil], [['frozen', 0.5], [evil, None]], evil, 'lc'),
        Figure(figure(), evil, evil),
        Figure(png, 'from a file'),
    ]
    path = write_report(
        tmp_path / 'new' / 'report.html', evil, [Section(evil, blocks), Section('two')]
    )
    page = path.read_text(encoding='utf-8')
    outline = Outline(page)
    tags = [tag for tag, _ in outline.seen]
    assert 'script' not in tags
    assert outline.texts.count(evil) == 2 + 2 + 1 + 3 + 1  # title, links, text, table, caption
    assert tags.count('tr') == 3
    assert [a['class'] for tag, a in outline.seen if tag == 'td'] == ['left', 'center'] * 2
    links = [a['href'] for tag, a in outline.seen if tag == 'a']
    assert links == ['#section-1', '#section-2']
    assert {'#' + str(a['id']) for tag, a in outline.seen if tag == 'section'} == set(links)
    images = [a for tag, a in outline.seen if tag == 'img']
    assert [image['alt'] for image in images] == [evil, 'from a file']
    decoded = base64.b64decode(str(images[0]['src']).removeprefix('data:image/png;base64,'))
    assert Image.open(io.BytesIO(decoded)).size == (384, 192)
    assert (images[0]['width'], images[0]['height']) == ('192', '96')
    # Nothing is asked from anywhere.
    assert not re.search(r'(?:src|href)="(?!data:|#)', page)
    assert 'url(' not in page
    assert 'prefers-color-scheme: dark' in page
    assert [p.name for p in path.parent.iterdir()] == ['report.html']


def test_one_section_has_no_contents(tmp_path: Path) -> None:
    page = write_report(tmp_path / 'r.html', 't', [Section('only', [Paragraph('x')])]).read_text()
    assert '<nav' not in page


def test_wrong_input(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r'ends in .html'):
        write_report(tmp_path / 'report.txt', 't', [Section('s')])
    with pytest.raises(ValueError, match='one or more sections'):
        write_report(tmp_path / 'report.html', 't', [])
    with pytest.raises(ValueError, match='2 cells per row, got 1'):
        Table(['a', 'b'], [['x']])
    for align in ('l', 'lx'):
        with pytest.raises(ValueError, match='2 letters of l, r, c'):
            Table(['a', 'b'], [], align=align)
    with pytest.raises(ValueError, match='alt'):
        Figure(figure(), ' ')
    with pytest.raises(FileNotFoundError, match='a PNG file'):
        Figure(tmp_path / 'none.png', 'x')
    (tmp_path / 'x.png').write_text('no picture')
    with pytest.raises(ValueError, match='another kind'):
        Figure(tmp_path / 'x.png', 'x')


def test_save_figure(tmp_path: Path) -> None:
    first = save_figure(figure(), tmp_path / 'deep' / 'a.png').read_bytes()
    assert first == save_figure(figure(), tmp_path / 'b.png').read_bytes()
    assert save_figure(figure(), tmp_path / 'c.svg').read_text().startswith('<?xml')
    with pytest.raises(ValueError, match='ends in one of'):
        save_figure(figure(), tmp_path / 'a.gif')


def test_lead_stands_above_the_contents_and_folded_parts_are_closed(tmp_path: Path) -> None:
    folded = Folded('more & more', [Paragraph('kept shut')])
    sections = [Section('one', [folded]), Section('two')]
    page = write_report(tmp_path / 'a.html', 'title', sections, [Paragraph('at once')]).read_text()
    outline = Outline(page)
    tags = [tag for tag, _ in outline.seen]
    assert page.index('at once') < page.index('<nav') < page.index('<section')
    assert tags.index('details') < tags.index('summary')
    assert dict(outline.seen)['details'] == {}  # not open
    assert 'more & more' in outline.texts
    assert page.index('<summary>') < page.index('kept shut') < page.index('</details>')
