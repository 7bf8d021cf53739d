from __future__ import annotations

import json
from pathlib import Path

import pytest

from refineclip.datasets.vocabularies import check_vocabulary, parse_texts, read_vocabulary


@pytest.mark.parametrize(
    ('texts', 'names'),
    [
        ('zebra', ('zebra',)),
        ('zebra . traffic light', ('zebra', 'traffic light')),
        ('zebra . traffic light .', ('zebra', 'traffic light')),
        ('St. Bernard . cat;kitten', ('St. Bernard', 'cat;kitten')),
    ],
)
def test_parse_texts(texts: str, names: tuple[str, ...]) -> None:
    assert parse_texts(texts) == names


@pytest.mark.parametrize(
    ('names', 'message'),
    [
        ([], 'class name or more, got none'),
        (['cat', ' ', ';dog'], r'empty ones at positions \[1, 2\]'),
        (['cat', 'dog', 'cat;kitten'], r"each class name once, got \['cat'\]"),
    ],
)
def test_bad_vocabularies(names: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=f'pets: expected .*{message}'):
        check_vocabulary(names, 'pets')


@pytest.mark.parametrize('texts', ['', ' . ', 'cat .  . dog', 'cat . cat'])
def test_bad_texts(texts: str) -> None:
    with pytest.raises(ValueError, match='texts'):
        parse_texts(texts)


def test_read_vocabulary(tmp_path: Path) -> None:
    text, listed = tmp_path / 'names.txt', tmp_path / 'names.json'
    text.write_text('cat;kitten\n\nstop sign\n')
    listed.write_text(json.dumps(['cat;kitten', 'stop sign']))
    assert read_vocabulary(text) == read_vocabulary(listed) == ('cat;kitten', 'stop sign')
    text.write_text('cat\ncat\n')
    with pytest.raises(ValueError, match=r'names\.txt: expected each class name once'):
        read_vocabulary(text)
    with pytest.raises(FileNotFoundError, match='class names'):
        read_vocabulary(tmp_path / 'none.txt')
