"""Class names from a file or a line of text, checked before anything is embedded."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

from refineclip.encoders.text import read_names


def parse_texts(texts: str) -> tuple[str, ...]:
    """Split a line of names as mmdet's demos write it: ``'zebra . traffic light'``.

    Args:
        texts: Names separated by ``' . '``, a closing dot allowed; synonyms of one class by ``;``.

    Raises:
        ValueError: If there is no name, one is empty, or one appears twice.
    """
    # A dot inside a name ("st. bernard") stays: only one with space before it separates.
    parts = f' {texts} '.rstrip().removesuffix(' .').split(' . ')
    return check_vocabulary([part.strip() for part in parts], f'texts {texts!r}')


def read_vocabulary(path: str | Path) -> tuple[str, ...]:
    """Read a vocabulary: a JSON list, or text with a name a line, its synonyms after ``;``.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If there is no name, one is empty, or one appears twice.
    """
    return check_vocabulary(read_names(path), str(path))


def as_vocabulary(names: Sequence[str] | str | Path, where: str = 'vocabulary') -> tuple[str, ...]:
    """Class names out of a sequence of them, or of a file; see :func:`check_vocabulary`."""
    if isinstance(names, str | Path):
        return read_vocabulary(names)
    return check_vocabulary(names, where)


def title_of(name: str) -> str:
    """The first of the synonyms of a class."""
    return name.split(';')[0].strip()


def check_vocabulary(names: Sequence[str], where: str = 'vocabulary') -> tuple[str, ...]:
    """Return the names, each a class of its own.

    Args:
        names: Class names; synonyms of one class are separated by ``;``, the first is its title.
        where: What the names are from, for the error.

    Raises:
        ValueError: If there is no name, one is empty, or two classes have the same title.
    """
    titles = [title_of(name) for name in names]
    if not titles:
        raise ValueError(f'{where}: expected one class name or more, got none')
    empty = [position for position, title in enumerate(titles) if not title]
    if empty:
        raise ValueError(
            f'{where}: expected a name for every class, got empty ones at positions {empty[:5]}'
        )
    twice = [title for title, count in Counter(titles).items() if count > 1]
    if twice:
        raise ValueError(f'{where}: expected each class name once, got {twice[:5]} more than once')
    return tuple(names)
