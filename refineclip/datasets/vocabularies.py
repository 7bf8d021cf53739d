"""Class names from a file or a line of text, checked before anything is embedded."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from refineclip.encoders.text.name_files import is_file, join_synonyms, read_json, read_names


def parse_texts(texts: str) -> tuple[str, ...]:
    """Split a line of names as mmdet's demos write it: ``'zebra . traffic light'``.

    Args:
        texts: Names separated by ``' . '``, a closing dot allowed; synonyms of one class by ``;``.

    Raises:
        ValueError: If there is no name, or one is empty, appears twice or is of several lines.
    """
    # A dot inside a name ("st. bernard") stays: only one with space around it separates.
    parts = [part.strip() for part in re.split(r'(?<!\S)\.(?!\S)', texts)]
    if len(parts) > 1 and not parts[-1]:  # the closing dot
        parts.pop()
    if any(len(part.splitlines()) > 1 for part in parts):
        raise ValueError(
            f"texts {texts!r}: expected names separated by ' . ', got several lines; give a file "
            'with a name a line instead'
        )
    for position, part in enumerate(parts):
        if not part and any(parts):
            after = f'after {parts[position - 1]!r}' if position else 'before the first dot'
            raise ValueError(
                f"texts {texts!r}: expected a name between ' . ', got none {after} (name "
                f'{position + 1}); remove a dot'
            )
    return check_vocabulary(parts if any(parts) else [], f'texts {texts!r}')


def read_vocabulary(path: str | Path) -> tuple[str, ...]:
    """Read a vocabulary from a file, see :func:`~refineclip.encoders.name_files.read_names`.

    A JSON list of ``{"id": ..., "name": ...}`` is a published class list, whose classes may have
    equal names; see :func:`read_class_list`.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If there is no name, one is empty, or one appears twice.
    """
    if (published := read_class_list(path)) is not None:
        return published
    return check_vocabulary(read_names(path), str(path))


def read_class_list(path: str | Path) -> tuple[str, ...] | None:
    """Read a published class list, a JSON list of ``{"id": ..., "name": ...}`` in label order.

    Such classes are told apart by their ids, so their names may be equal: the full ADE20K has
    three classes whose first name is 'bag'. ``tools/prepare/ade20k_847.py`` writes one.

    Returns:
        The names, or None if the file is no such list.

    Raises:
        ValueError: If an entry has no name, or an id appears twice.
    """
    path = Path(path)
    if path.suffix.lower() != '.json' or not is_file(path):
        return None
    entries = read_json(path)
    if not (isinstance(entries, list) and entries and isinstance(entries[0], dict)):
        return None
    wrong = [
        position
        for position, entry in enumerate(entries)
        if not (isinstance(entry, dict) and 'id' in entry and isinstance(entry.get('name'), str))
    ]
    if wrong:
        raise ValueError(
            f'{path}: expected entries {{"id": ..., "name": ...}}, got others at positions '
            f'{wrong[:5]}'
        )
    if twice := _positions_of_repeated([str(entry['id']) for entry in entries]):
        raise ValueError(f'{path}: expected each id once, got {_describe(twice)}')
    return check_vocabulary([entry['name'] for entry in entries], str(path), distinct=False)


def as_vocabulary(
    names: Sequence[str] | str | Path, where: str = 'vocabulary', distinct: bool = True
) -> tuple[str, ...]:
    """Class names out of a sequence, a line or a file of them; see :func:`check_vocabulary`.

    Args:
        names: A sequence of names, or of lists of synonyms; a path; or a text, which is a file or a
            line of :func:`parse_texts` as :func:`is_names_file` says.
        where: What the names are from, for the error.
        distinct: Refuse equal names in a sequence, see :func:`check_vocabulary`.
    """
    if isinstance(names, str) and not is_names_file(names):
        return parse_texts(names)
    if isinstance(names, str | Path):
        return read_vocabulary(names)
    return check_vocabulary(join_synonyms(names, where), where, distinct)


def is_names_file(text: str) -> bool:
    """Whether a text names a file of class names rather than being a line of them.

    It does if it is written as a path (ends in ``.txt`` or ``.json``, begins with ``/``, ``./`` or
    ``../``), or is an existing file with a suffix or a folder before it: a file called ``cat`` in
    the working directory is not what ``'cat'`` means.
    """
    if text.endswith(('.txt', '.json')) or text.startswith(('/', './', '../')):
        return True
    path = Path(text)
    return (bool(path.suffix) or len(path.parts) > 1) and is_file(path)


def title_of(name: str) -> str:
    """The first of the synonyms of a class."""
    return name.split(';')[0].strip()


def check_vocabulary(
    names: Sequence[str], where: str = 'vocabulary', distinct: bool = True
) -> tuple[str, ...]:
    """Return the names, each a class of its own.

    Args:
        names: Class names; synonyms of one class are separated by ``;``, the first is its title.
        where: What the names are from, for the error.
        distinct: Refuse equal titles, which in someone's own words are a slip. False for the
            classes of a data set, which are told apart by their position.

    Raises:
        ValueError: If there is no name, one is empty, or the titles of two classes are the same to
            a text tower.
    """
    titles = [title_of(name) for name in names]
    if not titles:
        raise ValueError(f'{where}: expected one class name or more, got none')
    unreadable = [position for position, name in enumerate(names) if any(map(_is_control, name))]
    if unreadable:
        raise ValueError(
            f'{where}: expected names of readable characters, got control characters at positions '
            f'{unreadable[:5]}: {names[unreadable[0]]!r}'
        )
    empty = [position for position, title in enumerate(titles) if not _says_something(title)]
    if empty:
        raise ValueError(
            f'{where}: expected a name for every class, got empty ones at positions {empty[:5]}'
        )
    if distinct and (twice := _positions_of_repeated([_as_prompted(title) for title in titles])):
        raise ValueError(
            f'{where}: expected each class name once, got {_describe(twice)} (capitals, spaces '
            "and '_' make no difference to a text tower)"
        )
    return tuple(names)


def _as_prompted(title: str) -> str:
    """What tells a title from others in a prompt: the tokenizers of CLIP know no capitals."""
    return ' '.join(title.replace('_', ' ').casefold().split())


def _is_control(character: str) -> bool:
    """Whether a character is neither written nor space: a control, or half of a UTF-16 pair."""
    return unicodedata.category(character) in ('Cc', 'Cs') and not character.isspace()


def _says_something(title: str) -> bool:
    # In prompts '_' becomes a space; a zero-width space is not printable.
    return any(char.isprintable() and char not in ' _' for char in title)


def numbered_titles(names: Sequence[str]) -> list[str]:
    """Titles to show: where several classes have one title, each with its class number.

    ``['bag', 'pot', 'bag;handbag']`` becomes ``['bag [0]', 'pot', 'bag [2]']``.
    """
    titles = [title_of(name) for name in names]
    repeated = _positions_of_repeated(titles)
    return [
        f'{title} [{position}]' if title in repeated else title
        for position, title in enumerate(titles)
    ]


def _positions_of_repeated(titles: Sequence[str]) -> dict[str, list[int]]:
    """Positions of each title that appears more than once."""
    positions = defaultdict(list)
    for position, title in enumerate(titles):
        positions[title].append(position)
    return {title: found for title, found in positions.items() if len(found) > 1}


def _describe(repeated: dict[str, list[int]]) -> str:
    """Name the first five of what appears more than once, and where, counted from 0."""
    first = dict(list(repeated.items())[:5])
    return f'{list(first)} more than once, at positions {list(first.values())}'
