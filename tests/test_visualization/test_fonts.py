from __future__ import annotations

import warnings

import pytest
from matplotlib.figure import Figure
from matplotlib.font_manager import findfont

from refineclip.visualization import fonts
from refineclip.visualization.style import png_bytes

ZEBRA = '斑马'
IN_STIX = '\u1d8d'  # a letter that DejaVu Sans lacks and matplotlib's STIXGeneral has


@pytest.fixture
def lines(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    said: list[str] = []
    monkeypatch.setattr(fonts, 'print_log', lambda text, **_: said.append(text))
    monkeypatch.setattr(fonts, '_said', set())
    monkeypatch.setattr(fonts, 'FALLBACKS', ('STIXGeneral', 'no such font'))
    return said


def figure_of(text: str) -> Figure:
    figure = Figure(figsize=(1, 1))
    figure.text(0.1, 0.5, text)
    return figure


def test_letters_without_a_font_are_said_once_and_drawn_all_the_same(lines: list[str]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter('error')  # matplotlib's own warning of each glyph
        for text in (f'{ZEBRA} café', ZEBRA, ZEBRA[:1]):
            assert png_bytes(figure_of(text)).startswith(b'\x89PNG')
    assert len(lines) == 1
    assert repr(''.join(sorted(ZEBRA))) in lines[0]
    assert 'apt-get install fonts-noto-cjk' in lines[0]
    png_bytes(figure_of('象'))
    assert len(lines) == 2


def test_another_installed_font_is_taken(lines: list[str]) -> None:
    assert fonts.missing_letters(f'a{IN_STIX}', findfont('DejaVu Sans')) == IN_STIX
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        drawn = png_bytes(figure_of(IN_STIX))
    assert lines == []
    box = Figure(figsize=(1, 1))
    box.text(0.1, 0.5, IN_STIX)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fonts, 'FALLBACKS', ())
        assert png_bytes(box) != drawn


def test_usual_letters_change_nothing(lines: list[str]) -> None:
    figure = figure_of('café, 25 µm')
    before = figure.texts[0].get_fontfamily()
    png_bytes(figure)
    assert figure.texts[0].get_fontfamily() == before
    assert lines == []
