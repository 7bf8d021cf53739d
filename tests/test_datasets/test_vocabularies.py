from __future__ import annotations

import json
from pathlib import Path

import pytest

from refineclip.datasets.vocabularies import (
    as_vocabulary,
    check_vocabulary,
    numbered_titles,
    parse_texts,
    read_vocabulary,
)


@pytest.mark.parametrize(
    ('texts', 'names'),
    [
        ('zebra', ('zebra',)),
        ('zebra . traffic light', ('zebra', 'traffic light')),
        ('zebra . traffic light .', ('zebra', 'traffic light')),
        ('St. Bernard . cat;kitten', ('St. Bernard', 'cat;kitten')),
        ('U.S. flag . st. bernard .', ('U.S. flag', 'st. bernard')),
        ('zebra.', ('zebra.',)),
        ('zebra\t.\n no. 5 sign\n', ('zebra', 'no. 5 sign')),
        ('ceiling-fan . bow_(ribbon) . {brace}', ('ceiling-fan', 'bow_(ribbon)', '{brace}')),
        ('斑马。 . sofa/couch', ('斑马。', 'sofa/couch')),
    ],
)
def test_parse_texts(texts: str, names: tuple[str, ...]) -> None:
    assert parse_texts(texts) == names


@pytest.mark.parametrize(
    ('names', 'message'),
    [
        ([], 'class name or more, got none'),
        (['cat', ' ', ';dog'], r'empty ones at positions \[1, 2\]'),
        (['cat', '_', '\u200b', '_ _;dog'], r'empty ones at positions \[1, 2, 3\]'),
        (
            ['cat', 'dog', 'cat;kitten'],
            r"each class name once, got \['cat'\] more than once, at positions \[\[0, 2\]\]",
        ),
        (['bus', 'Bus'], r"\['bus'\] more than once, at positions \[\[0, 1\]\] \(capitals"),
        (['Traffic_Light', 'dog', 'traffic  light'], r"\['traffic light'\] more than once"),
    ],
)
def test_bad_vocabularies(names: list[str], message: str) -> None:
    with pytest.raises(ValueError, match=f'pets: expected .*{message}'):
        check_vocabulary(names, 'pets')


@pytest.mark.parametrize(
    ('texts', 'message'),
    [
        ('', 'one class name or more, got none'),
        (' . ', 'one class name or more, got none'),
        ('cat . . dog', r"got none after 'cat' \(name 2\); remove a dot"),
        ('cat .  . dog', r"got none after 'cat' \(name 2\)"),
        ('. cat', r'got none before the first dot \(name 1\)'),
        ('cat . .', r"got none after 'cat' \(name 2\)"),
        ('cat . cat', "each class name once, got .'cat'"),
        ('cat\ndog', 'got several lines; give a file'),
    ],
)
def test_bad_texts(texts: str, message: str) -> None:
    with pytest.raises(ValueError, match=f'texts .*: expected .*{message}'):
        parse_texts(texts)


def test_a_text_is_a_line_or_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path('lists').mkdir()
    for file in ('names.txt', 'coco.names', 'lists/coco', 'cat'):
        Path(file).write_text('horse\n')
        assert as_vocabulary(Path(file)) == ('horse',)
    for file in ('names.txt', 'coco.names', 'lists/coco', './cat', str(tmp_path / 'cat')):
        assert as_vocabulary(file) == ('horse',)
    for line in ('cat', 'sofa/couch', 'st. bernard', 'cat . no. 5'):
        assert as_vocabulary(line) == parse_texts(line)
    for missing in ('gone.txt', 'lists/gone.json', './gone', '/gone'):
        with pytest.raises(FileNotFoundError, match='gone'):
            as_vocabulary(missing)


@pytest.mark.parametrize('count', [20, 80, 2000])
def test_long_lines_are_no_file_names(count: int) -> None:
    names = tuple(f'thing number {index}' for index in range(count))
    assert as_vocabulary(' . '.join(names)) == names


def test_sequences_may_hold_synonyms_and_nothing_else() -> None:
    assert as_vocabulary([['person', 'human'], 'bus']) == ('person;human', 'bus')
    with pytest.raises(ValueError, match=r'pets: expected a name .* at position 1 .*, got 7'):
        as_vocabulary(['cat', 7], 'pets')


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


def test_classes_of_a_data_set_differ_by_position(tmp_path: Path) -> None:
    """Whose list it is decides: a line or a plain file is somebody's words, ids are published."""
    names = ('bag', 'pot', 'bag;handbag')
    assert check_vocabulary(names, distinct=False) == names
    assert as_vocabulary(names, distinct=False) == names
    path = tmp_path / 'classes.json'
    path.write_text(json.dumps([{'id': 9 * i, 'name': name} for i, name in enumerate(names)]))
    assert read_vocabulary(path) == as_vocabulary(path) == names
    path.write_text(json.dumps(names))
    with pytest.raises(ValueError, match=r"\['bag'\] more than once, at positions \[\[0, 2\]\]"):
        read_vocabulary(path)
    # Each class still has a name.
    with pytest.raises(ValueError, match=r'empty ones at positions \[1\]'):
        check_vocabulary(['bag', ' '], distinct=False)


def test_wrong_class_lists(tmp_path: Path) -> None:
    path = tmp_path / 'classes.json'
    for entries, message in (
        ([{'id': 1, 'name': 'a'}, {'id': 1, 'name': 'b'}], r"each id once, got \['1'\] more than"),
        ([{'id': 1, 'name': 'a'}, {'id': 2}, 'b'], r'others at positions \[1, 2\]'),
    ):
        path.write_text(json.dumps(entries))
        with pytest.raises(ValueError, match=message):
            read_vocabulary(path)


def test_repeated_titles_are_shown_with_their_numbers() -> None:
    assert numbered_titles(['bag', 'pot;pan', 'bag;handbag']) == ['bag [0]', 'pot', 'bag [2]']


@pytest.mark.parametrize('name', ['a\x00', '\x1b[31mred', '\ud800'])
def test_control_characters_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r'control characters at positions \[1\]'):
        check_vocabulary(['zebra', name])
    assert check_vocabulary(['斑马', 'a\tb', 'क्\u200dष']) == ('斑马', 'a\tb', 'क्\u200dष')
