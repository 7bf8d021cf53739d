"""Letters that matplotlib's own font lacks: from another font that is installed, or said once."""

from __future__ import annotations

import contextlib
import logging
import warnings
from collections.abc import Iterator

import matplotlib
from matplotlib import font_manager
from matplotlib.figure import Figure
from matplotlib.ft2font import FT2Font
from matplotlib.text import Text
from mmengine.logging import print_log

# Families that hold Chinese, Japanese and Korean, on Linux, macOS and Windows.
FALLBACKS = (
    *('Noto Sans CJK SC', 'Noto Sans CJK JP', 'Source Han Sans SC', 'WenQuanYi Zen Hei'),
    *('WenQuanYi Micro Hei', 'Droid Sans Fallback', 'PingFang SC', 'Hiragino Sans'),
    *('Arial Unicode MS', 'Microsoft YaHei', 'Yu Gothic', 'Malgun Gothic'),
)
_said: set[str] = set()


@contextlib.contextmanager
def complete_fonts(figure: Figure) -> Iterator[None]:
    """While a figure is saved: texts take letters that their font lacks from another one.

    What no font has is drawn as boxes. That is said once; matplotlib would warn of every letter.
    """
    lacking: set[str] = set()
    for text in figure.findobj(Text):
        own = font_manager.findfont(text.get_fontproperties())
        missing = missing_letters(text.get_text(), own)
        if not missing:
            continue
        installed = {font.name for font in font_manager.fontManager.ttflist}
        families = [name for name in FALLBACKS if name in installed]
        text.set_fontfamily([*text.get_fontfamily(), *families])
        for name in families:
            missing = missing_letters(missing, font_manager.findfont(name))
        lacking.update(missing)
    _say(''.join(sorted(lacking - _said)))
    with warnings.catch_warnings():
        warnings.filterwarnings('ignore', message='Glyph .* missing from')
        yield


def missing_letters(letters: str, font: str) -> str:
    """Those of the letters that a font file has no glyph for."""
    if letters.isascii():
        return ''
    glyphs = font_manager.get_font(font)
    return ''.join(one for one in letters if one.isprintable() and not _has(glyphs, one))


def _has(glyphs: FT2Font, letter: str) -> bool:
    return glyphs.get_char_index(ord(letter)) != 0


def _say(letters: str) -> None:
    if not letters:
        return
    _said.update(letters)
    print_log(
        f'figures: no installed font of matplotlib has {letters[:20]!r}, boxes are drawn in their '
        'place; install one, for Chinese, Japanese and Korean with `apt-get install '
        f'fonts-noto-cjk`, and delete {matplotlib.get_cachedir()}',
        logger='current',
        level=logging.WARNING,
    )
