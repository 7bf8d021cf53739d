from __future__ import annotations

import codecs
import json
from pathlib import Path

import pytest

from refineclip.encoders.text.name_files import is_file, join_synonyms, read_names, read_text

NAMES = ['café table;bistro table', '象', 'st. bernard']


@pytest.mark.parametrize('encoding', ['utf-8', 'utf-8-sig', 'utf-16', 'utf-32'])
@pytest.mark.parametrize('newline', ['\n', '\r\n', '\r'])
def test_encodings_and_line_ends(tmp_path: Path, encoding: str, newline: str) -> None:
    lines, listed = tmp_path / 'names.txt', tmp_path / 'names.JSON'
    lines.write_bytes(newline.join(['# my names', NAMES[0], '', *NAMES[1:], '']).encode(encoding))
    listed.write_bytes(json.dumps(NAMES, ensure_ascii=False, indent=1).encode(encoding))
    assert read_names(lines) == read_names(listed) == NAMES


def test_utf16_of_either_order(tmp_path: Path) -> None:
    for mark, encoding in ((b'\xff\xfe', 'utf-16-le'), (b'\xfe\xff', 'utf-16-be')):
        (tmp_path / 'names.txt').write_bytes(mark + '\n'.join(NAMES).encode(encoding))
        assert read_names(tmp_path / 'names.txt') == NAMES


@pytest.mark.parametrize(
    ('content', 'found'),
    [
        ('zebra\ncafé\n'.encode('latin-1'), 'the byte 0xe9 in line 2, which is neither; save'),
        ('zebra'.encode('utf-16-le'), 'got zero bytes; save the file as UTF-8'),
        (b'\xff\xfez', 'the byte 0x7a in line 1, which is neither; save'),
    ],
)
def test_other_encodings_are_refused(tmp_path: Path, content: bytes, found: str) -> None:
    path = tmp_path / 'names.txt'
    path.write_bytes(content)
    with pytest.raises(ValueError, match=rf'names\.txt: expected text in UTF-8 .*{found}'):
        read_text(path)


def test_two_files_put_together_are_refused(tmp_path: Path) -> None:
    (tmp_path / 'names.txt').write_bytes(2 * codecs.BOM_UTF8.join([b'', b'dog\nzebra']))
    with pytest.raises(ValueError, match='a byte order mark in line 2, as where two files'):
        read_names(tmp_path / 'names.txt')


def test_lists_of_synonyms(tmp_path: Path) -> None:
    path = tmp_path / 'yolo_world.json'
    path.write_text(json.dumps([['person', 'human'], ['bus'], 'cat;kitten']))
    assert read_names(path) == ['person;human', 'bus', 'cat;kitten']
    assert join_synonyms([('person', 'human'), 'bus'], 'names') == ['person;human', 'bus']


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        ('["a", 3]', r'at position 1 \(from 0\), got 3'),
        ('["a", ["b", null]]', r"at position 1 \(from 0\), got \['b', None\]"),
        ('[[]]', r'at position 0 \(from 0\), got \[\]'),
        ('{"0": "cat"}', 'expected a JSON list of names, got dict; write the names as a list'),
        ('"cat"', 'got str'),
        ('["cat",', 'expected JSON, got none: .*line 1'),
        ('', 'expected JSON, got none'),
    ],
)
def test_other_json_is_refused(tmp_path: Path, content: str, message: str) -> None:
    path = tmp_path / 'n.json'
    path.write_text(content)
    with pytest.raises(ValueError, match=message) as error:
        read_names(path)
    assert str(error.value).startswith(str(path))


def test_a_text_too_long_for_a_path_is_no_file() -> None:
    assert not is_file('zebra ' * 200)
    with pytest.raises(FileNotFoundError, match='Expected a file of class names'):
        read_names('zebra ' * 200)
