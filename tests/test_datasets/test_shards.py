"""Shards: the images, regions and order of the folder that they were made of, or a sentence."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

pytest.importorskip('datasets')

import refineclip.distill  # noqa: F401
from refineclip.__main__ import main
from refineclip.datasets import RegionImageFolder, RegionImageShards, shards
from refineclip.datasets.shards import write_shards
from tests.test_distill.toy_runs import (
    assert_same_state,
    run_config,
    train,
    train_interrupted,
    write_images,
)

GRID = dict(type='GridRegions')


@pytest.fixture(scope='module')
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = write_images(tmp_path_factory.mktemp('shards') / 'images')
    (root / 'deep').mkdir()
    (root / '03.png').rename(root / 'deep' / 'ä.png')
    (root / '04.png').write_bytes(b'no image')
    return root


@pytest.fixture(scope='module')
def made(images: Path) -> Path:
    out = images.parent / 'made'
    assert main(['shard', str(images), '--out', str(out), '--images-per-shard', '3']) == 0
    assert len(list(out.glob('*.arrow'))) == 3
    assert not list(out.parent.glob('.made*'))
    return out


@pytest.fixture
def copy(made: Path, tmp_path: Path) -> Path:
    out = tmp_path / 'copy'
    out.mkdir()
    for path in made.iterdir():
        (out / path.name).write_bytes(path.read_bytes())
    return out


def test_items_are_those_of_the_folder(images: Path, made: Path) -> None:
    folder = RegionImageFolder(str(images), GRID, seed=3)
    packed = RegionImageShards(str(made), GRID, seed=3)
    assert packed.names == folder.names
    for index in range(2 * len(folder)):
        first, second = folder[index], packed[index]
        assert first.keys() == second.keys()
        if 'bad_image' in first:
            assert first['bad_image'][1] == second['bad_image'][1]
            continue
        assert torch.equal(first['inputs'], second['inputs'])
        assert torch.equal(first['boxes'], second['boxes'])
        assert first['img_path'].removeprefix(str(images)) == second['img_path'].removeprefix(
            str(made)
        )


def test_limit(made: Path) -> None:
    assert len(RegionImageShards(str(made), GRID, limit=5)) == 5


def test_a_resume_sees_what_is_left(images: Path, made: Path, tmp_path: Path) -> None:
    """And both are the run on the folder."""
    whole = train(run_config(images, tmp_path / 'folder', iters=8))
    configs = [run_config(made, tmp_path / name, iters=8) for name in ('whole', 'parts', 'parts')]
    for config in configs:
        config.train_dataloader.dataset.type = 'RegionImageShards'
    assert_same_state(whole, train(configs[0]))
    train_interrupted(configs[1], at=5)
    configs[2].resume = True
    assert_same_state(whole, train(configs[2]))


def test_a_missing_shard(copy: Path) -> None:
    (copy / 'data-00001-of-00003.arrow').unlink()
    with pytest.raises(FileNotFoundError, match=r'got no .*data-00001.*copy it again'):
        RegionImageShards(str(copy), GRID)


def test_a_shard_that_ends_early(copy: Path) -> None:
    path = copy / 'data-00002-of-00003.arrow'
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ValueError, match=r'data-00002.* ends early: expected \d+ bytes, got'):
        RegionImageShards(str(copy), GRID)


def test_a_shard_of_something_else(copy: Path) -> None:
    path = copy / 'data-00000-of-00003.arrow'
    path.write_bytes(b'x' * path.stat().st_size)
    with pytest.raises(ValueError, match=r'expected shards, got'):
        RegionImageShards(str(copy), GRID)


def test_no_shards(images: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r'expected a folder of shards .* without shards'):
        RegionImageShards(str(images), GRID)


def test_listed_images_only(images: Path, tmp_path: Path) -> None:
    (tmp_path / 'list.txt').write_text('deep/ä.png\n00.png\n')
    assert write_shards(images, tmp_path / 'out', ann_file=tmp_path / 'list.txt') == 2
    assert list(RegionImageShards(str(tmp_path / 'out'), GRID).names) == ['deep/ä.png', '00.png']


def test_a_run_that_fails_leaves_nothing(images: Path, tmp_path: Path, capsys) -> None:
    (tmp_path / 'list.txt').write_text('00.png\ngone.png\n')
    argv = ['shard', str(images), '--out', str(tmp_path / 'out')]
    with pytest.raises(SystemExit, match='2'):
        main([*argv, '--ann-file', str(tmp_path / 'list.txt')])
    assert 'gone.png' in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ['list.txt']


def test_without_the_library(monkeypatch: pytest.MonkeyPatch, made: Path) -> None:
    monkeypatch.setattr(shards, 'find_spec', lambda name: None)
    with pytest.raises(ImportError, match=r"pip install 'refineclip-mm\[shards\]'"):
        RegionImageShards(str(made), GRID)
