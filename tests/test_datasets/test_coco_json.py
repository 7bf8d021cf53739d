from __future__ import annotations

import json
from pathlib import Path

import pytest

from refineclip.datasets.coco_json import (
    check_categories,
    check_records,
    file_name_of,
    read_coco_json,
    read_json,
)

CONTENT = {'images': [{'id': 1, 'file_name': 'café.jpg'}], 'annotations': []}


@pytest.mark.parametrize('encoding', ['utf-8', 'utf-8-sig', 'utf-16', 'utf-16-le', 'utf-32'])
def test_encodings(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / 'a.json'
    path.write_text(json.dumps(CONTENT, ensure_ascii=False), encoding=encoding)
    assert read_json(path, 'images') == CONTENT


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (json.dumps(CONTENT).encode()[:30], 'ends too early'),
        (b'{"images": [1, 2', 'ends too early'),
        (b'', 'ends too early'),
        (b'<html>404</html>', 'got a file that is none'),
        (b'version https://git-lfs.github.com/spec/v1', 'got a file that is none'),
        ('{"a": "é"}'.encode('latin-1'), 'utf-8 or utf-16, got another file'),
        (b'[' * 100_000, 'a.json: expected a json of captions'),
        (b'[]', "'annotations'., got a list"),
        (b'{"images": []}', r"list of 'annotations', got only \['images'\]"),
        (b'{"images": {}, "annotations": []}', "list of 'images', got dict"),
    ],
)
def test_what_is_none_is_said_with_the_files_name(
    tmp_path: Path, content: bytes, message: str
) -> None:
    path = tmp_path / 'a.json'
    path.write_bytes(content)
    with pytest.raises(ValueError, match=message) as info:
        read_coco_json(path, 'captions', ('images', 'annotations'))
    assert str(info.value).startswith(f'{path}: expected')
    with pytest.raises(FileNotFoundError, match=r'json of captions, got .*none\.json'):
        read_json(tmp_path / 'none.json', 'captions')


def test_first_record_without_a_key_is_shown() -> None:
    records = [{'id': 1, 'name': 'a'}, {'id': 2, 'nam': 'b'}, {}]
    with pytest.raises(ValueError, match=r"x.json: .* of 'name' in categories\[1\]: .*\"nam\""):
        check_records('x.json', 'categories', records, ('id', 'name'))
    with pytest.raises(ValueError, match=r'images\[0\]: 3; do this'):
        check_records('x.json', 'images', [3], ('id',), 'do this')  # type: ignore[list-item]


@pytest.mark.parametrize(
    ('second', 'key'), [({'id': 1, 'name': 'b'}, 'id 1'), ({'id': 2, 'name': 'a'}, "name 'a'")]
)
def test_a_category_written_twice(second: dict, key: str) -> None:
    first = {'id': 1, 'name': 'a'}
    check_categories('x.json', [first, {'id': 3, 'name': 'c'}])
    with pytest.raises(ValueError, match=f'x.json: .*two of {key}') as info:
        check_categories('x.json', [first, second])
    assert json.dumps(first) in str(info.value)
    assert json.dumps(second) in str(info.value)


def test_name_of_an_image() -> None:
    url = 'http://images.cocodataset.org/train2017/7.jpg'
    assert file_name_of({'file_name': 'a.jpg', 'coco_url': url}) == 'a.jpg'
    assert file_name_of({'coco_url': url}) == '7.jpg'
    assert file_name_of({'coco_url': url}, parts=2) == 'train2017/7.jpg'
    assert file_name_of({'id': 7}) is None


@pytest.mark.parametrize(
    ('key', 'value', 'what'),
    [
        ('id', [1], 'a whole number or a text'),
        ('image_id', 1.5, 'a whole number or a text'),
        ('width', '640', 'pixels, more than 0'),
        ('height', 0, 'pixels, more than 0'),
        ('name', 3, 'a text'),
        ('caption', ['a'], 'a text'),
        ('file_name', 'a\0.jpg', 'a text'),
        ('file_name', f'a/{"x" * 252}.jpg', 'a text of at most 255 bytes between slashes'),
        ('bbox', [0, 0, float('nan'), 1], 'four numbers'),
        ('bbox', [0, 0, 1], 'four numbers'),
        ('area', float('inf'), 'a number'),
        ('segments_info', {}, 'a list'),
    ],
)
def test_values_of_another_kind_are_refused(key: str, value: object, what: str) -> None:
    good = {'id': 1, 'file_name': 'a.jpg', 'width': 640, 'bbox': [0, 0, 1.5, 1], 'area': None}
    check_records('a.json', 'images', [good], ('id',))
    with pytest.raises(ValueError, match=rf"a\.json: expected {what}.* as '{key}' .*images\[1\]"):
        check_records('a.json', 'images', [good, {**good, key: value}], ())


def test_ids_of_two_kinds_are_refused() -> None:
    with pytest.raises(ValueError, match=r'expected a number like the first .*got "2"'):
        check_categories('a.json', [dict(id=1, name='a'), dict(id='2', name='b')])
