from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from refineclip.datasets import class_folders
from refineclip.datasets.class_folders import ClassFolders, read_class_names


def write(root, folders, number=2):
    for folder in folders:
        (root / folder).mkdir(parents=True)
        for index in range(number):
            Image.new('RGB', (8, 8)).save(root / folder / f'{index}.png')
    return root


def test_folders_labels_and_names(tmp_path):
    root = write(tmp_path, ['red_fox', 'cat', '.cache'])
    (root / 'cat' / '._0.png').touch()  # macOS companions are no images
    (root / 'cat' / 'notes.txt').touch()
    (root / 'cat' / 'more').mkdir()
    Image.new('RGB', (8, 8)).save(root / 'cat' / 'more' / 'deep.JPG')
    data = ClassFolders(root)
    assert data.folders == data.names == ['cat', 'red_fox']
    assert data.labels.tolist() == [0, 0, 0, 1, 1]
    assert [path.name for path in data.paths] == ['0.png', '1.png', 'deep.JPG', '0.png', '1.png']
    assert len(data) == 5
    assert data.labels.dtype == np.int64
    assert data.names_from is None


def test_a_link_that_leads_back_counts_an_image_once(tmp_path):
    root = write(tmp_path, ['cat', 'dog'])
    (root / 'cat' / 'loop').symlink_to(root / 'cat')
    assert ClassFolders(root).labels.tolist() == [0, 0, 1, 1]


@pytest.mark.parametrize(
    ('name', 'text', 'expected'),
    [
        (
            'classes.json',
            json.dumps(dict(n02='cat', n01=['fish', 'tench'], n09='more')),
            ['fish;tench', 'cat'],
        ),
        ('classes.json', '["fish", "cat"]', ['fish', 'cat']),
        ('classes.txt', 'n02 cat\nn01 fish;tench\nn09 other\n\n', ['fish;tench', 'cat']),
        ('classes.txt', 'n01\tgreat fish\nn02\tcat', ['great fish', 'cat']),
        ('classes.txt', 'great fish\ncat\n', ['great fish', 'cat']),
        ('classes.txt', 'n01\nn02\n', ['n01', 'n02']),
    ],
)
def test_forms_of_name_files(tmp_path, name, text, expected):
    (tmp_path / name).write_text(text)
    assert read_class_names(tmp_path / name, ['n01', 'n02']) == expected


def test_a_file_in_the_folder_is_found_and_another_one_wins(tmp_path):
    root = write(tmp_path / 'data', ['n00000001', 'n00000002'])
    with pytest.raises(ValueError, match='WordNet ids'):
        ClassFolders(root)
    (root / 'classes.txt').write_text('fish\ncat')
    assert ClassFolders(root).names == ['fish', 'cat']
    assert ClassFolders(root).names_from == root / 'classes.txt'
    other = tmp_path / 'names.json'
    other.write_text(json.dumps(dict(n00000001='tench', n00000002='tiger')))
    assert ClassFolders(root, other).names == ['tench', 'tiger']


def test_folder_names_with_spaces(tmp_path):
    (tmp_path / 'names.txt').write_text('sea lion\tseal\nsea\tocean')
    assert read_class_names(tmp_path / 'names.txt', ['sea', 'sea lion']) == ['ocean', 'seal']
    (tmp_path / 'names.txt').write_text('sea lion\nsea')
    assert read_class_names(tmp_path / 'names.txt', ['sea', 'sea lion']) == ['sea', 'sea lion']


@pytest.mark.parametrize(
    ('name', 'text', 'message'),
    [
        ('a.json', '{"n05": "cat"}', 'got none of them'),
        ('a.json', '{"n01": "cat"}', r"got 1 of them \(missing: \['n02'\]\)"),
        ('a.json', '["cat"]', 'got 1 names that match none'),
        ('a.json', '"cat"', 'an object or a list'),
        ('a.json', '{"n01": "cat", "n02": []}', "name or names for 'n02'"),
        ('a.json', '{"n01": "cat", "n02": " "}', "name or names for 'n02'"),
        ('a.txt', 'n05 cat\nn06 dog\nn07 cow', 'got 3 names that match none'),
        ('a.txt', 'n01 cat\nn01 dog\nn02 cow', 'each class folder once'),
    ],
)
def test_wrong_name_files(tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        read_class_names(tmp_path / name, ['n01', 'n02'])


def test_wrong_folders(tmp_path):
    with pytest.raises(FileNotFoundError, match='folder of class folders'):
        ClassFolders(tmp_path / 'nowhere')
    root = write(tmp_path / 'data', ['cat'])
    with pytest.raises(ValueError, match='two or more class folders'):
        ClassFolders(root)
    (root / 'dog').mkdir()
    (root / 'dog' / 'readme.txt').touch()
    with pytest.raises(ValueError, match=r"none in 1 of 2: \['dog'\]"):
        ClassFolders(root)
    with pytest.raises(FileNotFoundError, match='file of class names'):
        read_class_names(root / 'nowhere.txt', ['cat'])


def test_two_classes_of_one_name_are_warned_about(tmp_path, monkeypatch):
    texts = []
    monkeypatch.setattr(class_folders, 'print_log', lambda text, **kwargs: texts.append(text))
    root = write(tmp_path, ['a', 'b', 'c'])
    (root / 'classes.txt').write_text('crane\ncrane\nheron')
    ClassFolders(root)
    assert '1 names stand for more than one class folder' in texts[0]


def test_names_with_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / 'classes.txt'
    for encoding in ('utf-8-sig', 'utf-16', 'utf-32'):
        path.write_text('a café\nb chat\n', encoding=encoding)
        assert read_class_names(path, ['a', 'b']) == ['café', 'chat']
