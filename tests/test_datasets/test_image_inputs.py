from __future__ import annotations

from pathlib import Path
from unittest import mock

import pytest
from PIL import Image

from refineclip.datasets.image_inputs import find_inputs


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(*names: str) -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Image.new('RGB', (4, 4)).save(name)


def results(*sources: str, **options: Path) -> list[str]:
    found = find_inputs(sources, **options)
    assert len({one.stem for one in found}) == len(found)
    return [str(one.result(Path('out'), '.json').relative_to('out')) for one in found]


def test_a_folder_keeps_its_layout(here: Path) -> None:
    write('photos/b.jpg', 'photos/deep/a.v2.png')
    assert results('photos') == ['b.json', 'deep/a.v2.json']
    assert results('photos/deep/a.v2.png') == ['a.v2.json']
    assert (here / 'out' / 'deep').is_dir()


def test_equal_names_of_two_folders_stay_apart(here: Path) -> None:
    write('cam1/x.jpg', 'cam2/x.jpg')
    for sources in (('cam1', 'cam2'), ('cam1/x.jpg', 'cam2/x.jpg'), ('cam1', 'cam2/x.jpg')):
        assert results(*sources) == ['cam1/x.json', 'cam2/x.json']


def test_equal_stems_keep_their_suffix(here: Path) -> None:
    write('p/a.jpg', 'p/a.png', 'p/b.jpg')
    assert results('p') == ['a.jpg.json', 'a.png.json', 'b.json']
    write('p/a.jpg.png')
    assert sorted(results('p')) == ['a.jpg.json', 'a.jpg.png.json', 'a.png.json', 'b.jpg.json']


def test_an_image_that_is_named_twice_is_done_once(here: Path) -> None:
    write('p/a.jpg', 'p/q/b.jpg')
    assert results('p', 'p/../p/q', 'p/a.jpg') == ['a.json', 'q/b.json']
    assert [one.path for one in find_inputs([here / 'p' / 'a.jpg', Path('p/a.jpg')])] == [
        here / 'p' / 'a.jpg'
    ]


def test_links_keep_the_name_that_was_given(here: Path) -> None:
    write('elsewhere/0001.jpg')
    Path('p').mkdir()
    Path('p/cat.jpg').symlink_to(here / 'elsewhere' / '0001.jpg')
    assert results('p') == ['cat.json']


def test_results_of_an_earlier_call_are_no_input(here: Path) -> None:
    write('p/a.jpg', 'p/vis/a.png', 'p/labels/a.png', 'p/visit/b.jpg')
    assert results('p', results=Path('p')) == ['a.json', 'visit/b.json']
    assert results('p/vis/a.png', results=Path('p')) == ['a.json']
    with pytest.raises(ValueError, match='only results of an earlier call'):
        find_inputs('p/vis', Path('p'))


def test_wrong_input(here: Path) -> None:
    (here / 'empty').mkdir()
    with pytest.raises(FileNotFoundError, match=r'got no\.jpg: no such file'):
        find_inputs('no.jpg')
    with pytest.raises(ValueError, match='below empty, got none'):
        find_inputs(['empty'])
    write('a.jpg')
    for nothing in ([], '', ['a.jpg', '']):
        with pytest.raises(ValueError, match='got none'):
            find_inputs(nothing)


def test_results_below_a_link_are_no_input(here: Path) -> None:
    write('p/a.jpg', 'p/found/vis/a.png')
    Path('found').symlink_to(here / 'p' / 'found')
    assert results('p', results=Path('found')) == ['a.json']
    Path('q').symlink_to(here / 'p')
    assert results('q', results=Path('p/found')) == ['a.json']


def test_results_with_another_out_are_no_input(here: Path) -> None:
    write('p/a.jpg', 'p/found/vis/deep/a.png', 'p/found/labels/a.png', 'p/labels/b.jpg')
    with mock.patch('refineclip.datasets.image_inputs.print_log') as log:
        assert results('p', results=Path('other')) == ['a.json', 'labels/b.json']
        assert log.call_args[0][0].startswith('2 images below p are left out')
        assert results('p/found/vis') == ['deep/a.json']
        assert log.call_count == 1
