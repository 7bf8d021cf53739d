"""Values of a json one after the other, whatever the pieces that it is read in."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from refineclip.datasets import json_stream
from refineclip.datasets.json_stream import JsonStream

CONTENTS: list[Any] = [
    {},
    [],
    7,
    12.5,
    'text',
    None,
    [1, 2, 3],
    [[1, 2], [3]],
    [{'a': 1}, {'b': [1, {'c': 'ä"}]'}]}],
    {'a': [{'x': 1}, {'x': 2}, {'x': 3}], 'b': {'c': []}, 'd': [], 'e': -12, 'f': [[1.5, 2]]},
]


def read(path: Path) -> Any:
    """Put together again what the stream took apart."""
    parts = list(JsonStream(path, 'things'))
    lists: dict[Any, Any] = {}
    for key, value, start in parts:
        if start > 0:
            assert start == len(lists[key])
            lists[key] = lists[key] + value
        else:
            assert key not in lists
            lists[key] = value
    return lists.get(None, lists)


@pytest.mark.parametrize('chunk', [1, 3, 1000])
@pytest.mark.parametrize('encoding', ['utf-8', 'utf-8-sig', 'utf-16'])
@pytest.mark.parametrize('indent', [None, 2])
def test_equals_the_library(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int, encoding: str, indent: int | None
) -> None:
    monkeypatch.setattr(json_stream, '_CHUNK', chunk)
    monkeypatch.setattr(json_stream, '_BATCH', 2)
    for content in CONTENTS:
        path = tmp_path / 'a.json'
        text = json.dumps(content, indent=indent, ensure_ascii=False)
        path.write_text(f'{text} \n', encoding=encoding)
        assert read(path) == content


@pytest.mark.parametrize('content', CONTENTS[3:])
def test_every_cut_is_noticed(tmp_path: Path, content: Any) -> None:
    """12.5 cut after a digit is a number as well."""
    whole = json.dumps(content)
    path = tmp_path / 'a.json'
    for end in range(len(whole)):
        path.write_text(whole[:end])
        try:
            json.loads(whole[:end])
        except ValueError:
            with pytest.raises(ValueError, match=r'a\.json: expected a json of things, got a file'):
                read(path)
    path.write_text(whole[:-1])
    if whole[-1] in ']}"':
        with pytest.raises(ValueError, match='ends too early'):
            read(path)


@pytest.mark.parametrize(
    'text', ['{"a": 1} x', '{a: 1}', '[{"a": 1} {"a": 2}]', '{"a" 1}', '{1: 2}']
)
def test_other_texts_are_none(tmp_path: Path, text: str) -> None:
    path = tmp_path / 'a.json'
    path.write_text(text)
    with pytest.raises(ValueError, match='is none'):
        read(path)


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    path = tmp_path / 'a.json'
    path.write_bytes(b'{"a": "\xff\xfe\x80"}')
    with pytest.raises(ValueError, match='utf-8 or utf-16'):
        read(path)


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r'gone\.json, which is no file'):
        JsonStream(tmp_path / 'gone.json', 'things')
