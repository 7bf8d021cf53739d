"""Files of class names as people and tools write them: encodings, synonyms, lines or JSON."""

from __future__ import annotations

import codecs
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# UTF-32's little-endian mark begins with UTF-16's.
_MARKS = {
    codecs.BOM_UTF32_LE: 'utf-32',
    codecs.BOM_UTF32_BE: 'utf-32',
    codecs.BOM_UTF8: 'utf-8-sig',
    codecs.BOM_UTF16_LE: 'utf-16',
    codecs.BOM_UTF16_BE: 'utf-16',
}


def read_text(path: str | Path) -> str:
    """Read a text file: UTF-8, or what its byte order mark says (UTF-8, UTF-16, UTF-32).

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is in another encoding, or no text.
    """
    path = Path(path)
    content = path.read_bytes()
    mark = next((mark for mark in _MARKS if content.startswith(mark)), b'')
    try:
        text = content.decode(_MARKS.get(mark, 'utf-8'))
    except UnicodeDecodeError as error:
        line = content.count(b'\n', 0, error.start) + 1
        raise ValueError(
            f'{path}: expected text in UTF-8 (or UTF-16 with a byte order mark), got the byte '
            f'0x{content[error.start]:02x} in line {line}, which is neither; save the file as '
            f'UTF-8, or convert it: iconv -f latin1 -t utf-8 {path.name}'
        ) from error
    if '\0' in text:
        raise ValueError(
            f'{path}: expected text in UTF-8 (or UTF-16 with a byte order mark), got zero bytes; '
            'save the file as UTF-8'
        )
    before, mark_inside, _ = text.partition('\ufeff')
    if mark_inside:
        raise ValueError(
            f'{path}: expected one text, got a byte order mark in line '
            f'{len(before.splitlines()) or 1}, as where two files were put together; put a line '
            'break in its place'
        )
    return text


def read_json(path: str | Path) -> Any:
    """Read a JSON file in any encoding of :func:`read_text`.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is no text, or no JSON.
    """
    try:
        return json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise ValueError(f'{path}: expected JSON, got none: {error}') from error


def read_names(path: str | Path) -> list[str]:
    """Read class names from a file.

    Args:
        path: ``.json``: a list of names, or of lists of synonyms (YOLO-World's). Any other suffix:
            a name a line, its synonyms after ``;``. Blank lines and those that begin with ``#`` are
            skipped.

    Returns:
        The names, synonyms separated by ``;``.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is in another encoding, or the JSON is another.
    """
    path = Path(path)
    if not is_file(path):
        raise FileNotFoundError(f'Expected a file of class names, got {path}, which is no file.')
    if path.suffix.lower() != '.json':
        lines = (line.strip() for line in read_text(path).splitlines())
        return [line for line in lines if line and not line.startswith('#')]
    names = read_json(path)
    if not isinstance(names, list):
        raise ValueError(
            f'{path}: expected a JSON list of names, got {type(names).__name__}; write the names '
            'as a list, in the order of the classes'
        )
    return join_synonyms(names, str(path))


def join_synonyms(names: Sequence[Any], where: str) -> list[str]:
    """Turn names, and lists of synonyms among them, into names with synonyms after ``;``.

    Raises:
        ValueError: One is neither a text nor a list of texts.
    """
    joined = []
    for position, name in enumerate(names):
        parts = name if isinstance(name, list | tuple) and name else [name]
        if not all(isinstance(part, str) for part in parts):
            raise ValueError(
                f'{where}: expected a name or a list of synonyms at position {position} (from 0), '
                f'got {name!r}'
            )
        joined.append(';'.join(parts))
    return joined


def is_file(path: str | Path) -> bool:
    """Whether there is such a file; a text too long for a path is none."""
    try:
        return Path(path).is_file()
    except OSError:
        return False
