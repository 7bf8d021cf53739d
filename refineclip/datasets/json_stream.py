"""A json of gigabytes, record by record: one piece of it is in memory at a time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn, TextIO

_CHUNK = 2**22  # characters
_BATCH = 4096  # records
_SPACE = ' \t\n\r'
_AFTER = tuple(f'{_SPACE},:]}}')  # what may follow a value


class JsonStream:
    """Read the values of a json's outermost object or list one after the other.

    Args:
        path: The file, in any Unicode encoding, with or without a byte order mark.
        wanted: What it should hold, for the errors.

    Raises:
        FileNotFoundError: There is no such file.
    """

    def __init__(self, path: str | Path, wanted: str) -> None:
        self.path, self.wanted = Path(path), wanted
        if not self.path.is_file():
            raise FileNotFoundError(f'expected a json of {wanted}, got {path}, which is no file')
        with self.path.open('rb') as file:
            self._encoding = json.detect_encoding(file.read(4))
        self._scan: Any = json.JSONDecoder().scan_once  # type: ignore[attr-defined]

    def __iter__(self) -> Iterator[tuple[str | None, Any, int]]:
        """Yield values with their key, ``None`` in a list, and a number.

        A list of objects comes in parts, ``(key, records, index of the first)``; all else whole,
        ``(key, value, -1)``. The outermost value itself, if it is no object and no list, has no
        key.

        Raises:
            ValueError: The file is no json, or is cut off.
        """
        try:
            with self.path.open(encoding=self._encoding, errors='surrogatepass') as file:
                self._file: TextIO = file
                self._text, self._at, self._ended = '', 0, False
                yield from self._top()
                if self._peek():
                    self._refuse('more after its end', self._at)
        except (UnicodeError, RecursionError) as error:
            raise ValueError(
                f'{self.path}: expected a json of {self.wanted} in utf-8 or utf-16, got another '
                f'file: {error}'
            ) from error

    def _top(self) -> Iterator[tuple[str | None, Any, int]]:
        start = self._peek()
        if start == '[':
            yield from self._list(None)
        elif start == '{':
            self._at += 1
            if self._peek() == '}':
                self._at += 1
                return
            while True:
                key = self._value()
                if not isinstance(key, str):
                    self._refuse('a key that is no text', self._at)
                self._expect(':')
                if self._peek() == '[':
                    yield from self._list(key)
                else:
                    yield key, self._value(), -1
                if self._expect(',}') == '}':
                    return
        else:
            yield None, self._value(), -1

    def _list(self, key: str | None) -> Iterator[tuple[str | None, Any, int]]:
        """A list of objects in parts, any other whole."""
        if self._after_bracket() != '{':
            yield key, self._value(), -1
            return
        self._expect('[')
        records: list[Any] = []
        start = 0
        while True:
            records.append(self._value())
            end = self._expect(',]')
            if end == ']' or len(records) == _BATCH:
                yield key, records, start
                start, records = start + len(records), []
            if end == ']':
                return
            self._peek()

    def _value(self) -> Any:
        self._peek()
        while True:
            try:
                value, end = self._scan(self._text, self._at)
                # The rest of a number may be in the next chunk.
                if self._ended or self._text[end : end + 1] in _AFTER:
                    self._at = end
                    return value
            except StopIteration as error:
                if self._ended:
                    self._refuse('Expecting value', error.value)
            except json.JSONDecodeError as error:
                if self._ended:
                    self._refuse(error.msg, error.pos)
            self._read()

    def _expect(self, characters: str) -> str:
        found = self._peek()
        if not found or found not in characters:
            self._refuse(f'Expecting {" or ".join(map(repr, characters))}', self._at)
        self._at += 1
        return found

    def _peek(self) -> str:
        """The next character that is no space, '' at the end."""
        while True:
            while self._at < len(self._text):
                if self._text[self._at] not in _SPACE:
                    return self._text[self._at]
                self._at += 1
            if self._ended:
                return ''
            self._read()

    def _after_bracket(self) -> str:
        """The first character of a list, which is not passed."""
        while True:
            inside = self._text[self._at + 1 :].lstrip(_SPACE)[:1]
            if inside or self._ended:
                return inside
            self._read()

    def _read(self) -> None:
        """Drop what was read and read on, the more the longer a value is."""
        kept = self._text[self._at :]
        more = self._file.read(max(_CHUNK, len(kept)))
        self._ended = not more
        self._text, self._at = kept + more, 0

    def _refuse(self, message: str, at: int) -> NoReturn:
        cut = self._ended and (
            'Unterminated' in message or at >= len(self._text.rstrip(_SPACE)) - 1
        )
        what = 'ends too early (cut off while it was copied or downloaded?)' if cut else 'is none'
        near = self._text[max(0, at - 20) : at + 20]
        raise ValueError(
            f'{self.path}: expected a json of {self.wanted}, got a file that '
            f'{what}: {message} near {near!r}'
        )
