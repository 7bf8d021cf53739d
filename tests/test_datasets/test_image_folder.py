from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from mmengine.registry import DATASETS
from mmengine.runner import Runner
from PIL import Image

import refineclip.distill.regions  # noqa: F401  (registers the samplers)
from refineclip.datasets import RegionImageFolder, collate_regions
from refineclip.datasets.image_folder import list_images, read_image_list
from refineclip.distill.feature_cache import FeatureCache

GRID = {'type': 'GridRegions'}


def write_images(folder: Path, names: list[str], size: tuple[int, int] = (48, 40)) -> Path:
    for value, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new('RGB', size, (value, value, value)).save(folder / name)
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return write_images(tmp_path, ['b.png', 'a/z.JPG', 'a/b/c.webp', 'd.bmp', 'e.jpeg'])


def test_finds_images_recursively_and_sorted(folder: Path) -> None:
    (folder / 'notes.txt').write_text('x')
    (folder / 'a' / '._z.jpg').write_bytes(b'x')
    dataset = RegionImageFolder(str(folder), GRID)
    assert dataset.names == ['a/b/c.webp', 'a/z.JPG', 'b.png', 'd.bmp', 'e.jpeg']
    assert dataset.metainfo['num_images'] == 5


def test_item(folder: Path) -> None:
    dataset = DATASETS.build(
        {'type': 'RegionImageFolder', 'data_root': str(folder), 'region_sampler': GRID}
    )
    item = dataset[2]
    assert item['inputs'].shape == (3, 40, 48)
    assert item['inputs'].dtype == torch.uint8
    assert item['inputs'].unique().tolist() == [0]
    assert item['boxes'].dtype == torch.float32
    assert item['boxes'].shape[1] == 4
    assert item['img_path'] == str(folder / 'b.png')
    assert (item['img_id'], item['epoch']) == (2, 0)
    assert 'labels' not in item


def test_regions_are_a_function_of_seed_epoch_and_image(folder: Path) -> None:
    dataset = RegionImageFolder(str(folder), GRID, seed=1)
    again = RegionImageFolder(str(folder), GRID, seed=1)
    other = RegionImageFolder(str(folder), GRID, seed=2)

    def draws(source: RegionImageFolder, epoch: int) -> list[list]:
        items = [source[i + epoch * len(source)] for i in range(len(source))]
        assert [(item['img_id'], item['epoch']) for item in items] == [(i, epoch) for i in range(5)]
        return [item['boxes'].tolist() for item in items]

    assert draws(dataset, 0) == draws(again, 0)
    assert draws(dataset, 3) == draws(again, 3)
    assert draws(dataset, 0) != draws(dataset, 1)
    assert draws(dataset, 0) != draws(other, 0)
    assert draws(dataset, 0)[0] != draws(dataset, 0)[1]
    # Exactly the generator that the contract names, so caches survive a rewrite of the dataset.
    generator = np.random.default_rng((1, 3, 4))
    assert dataset.region_sampler(48, 40, generator).tolist() == draws(dataset, 3)[4]


def test_fixed_regions_do_not_follow_the_epoch(folder: Path) -> None:
    dataset = RegionImageFolder(str(folder), GRID, fixed_regions=True)
    assert torch.equal(dataset[1]['boxes'], dataset[1 + 7 * 5]['boxes'])
    assert dataset[1 + 7 * 5]['epoch'] == 7


def test_limit_and_lists(folder: Path, tmp_path: Path) -> None:
    assert RegionImageFolder(str(folder), GRID, limit=2).names == ['a/b/c.webp', 'a/z.JPG']
    text = tmp_path / 'list.txt'
    text.write_text('d.bmp\n\nb.png\n')
    assert RegionImageFolder(str(folder), GRID, ann_file=str(text)).names == ['d.bmp', 'b.png']
    coco = tmp_path / 'coco.json'
    coco.write_text(json.dumps({'images': [{'id': 1, 'file_name': 'b.png'}]}))
    assert RegionImageFolder(str(folder), GRID, ann_file=str(coco)).names == ['b.png']
    lvis = tmp_path / 'lvis.json'
    lvis.write_text(json.dumps({'images': [{'id': 1, 'coco_url': 'http://host/a/z.JPG'}]}))
    assert RegionImageFolder(str(folder), GRID, ann_file=str(lvis)).names == ['a/z.JPG']


def test_lists_of_other_encodings_and_kinds(folder: Path, tmp_path: Path) -> None:
    names = tmp_path / 'names.txt'
    for encoding in ('utf-8-sig', 'utf-16'):
        names.write_text('b.png\r\nd.bmp\n', encoding=encoding)
        assert read_image_list(names) == ['b.png', 'd.bmp']
    names = tmp_path / 'names.json'
    names.write_text('{"images": [{"file_name": "b.png"}, {"id": 3}]}')
    with pytest.raises(ValueError, match=r'names.json: .*neither in images\[1\]: {"id": 3}'):
        read_image_list(names)
    names.write_text('{"images": [{"file_name": Infinity}]}')
    with pytest.raises(ValueError, match=r"names.json: expected a text .* as 'file_name'"):
        read_image_list(names)
    names.write_text('{"images": [{"file_name"')
    with pytest.raises(ValueError, match=r'names.json: .*ends too early'):
        read_image_list(names)


def test_a_cycle_of_links_counts_a_photo_once(tmp_path: Path) -> None:
    write_images(tmp_path / 'root', ['b/x.png', 'c/y.png'])
    write_images(tmp_path / 'elsewhere', ['z.png'])
    (tmp_path / 'root' / 'a').symlink_to(tmp_path / 'root' / 'b')
    (tmp_path / 'root' / 'b' / 'up').symlink_to(tmp_path / 'root')
    (tmp_path / 'root' / 'other').symlink_to(tmp_path / 'elsewhere')
    (tmp_path / 'elsewhere' / 'back').symlink_to(tmp_path / 'root')
    assert list_images(tmp_path / 'root') == ['b/x.png', 'c/y.png', 'other/z.png']


def test_names_that_are_no_text(tmp_path: Path) -> None:
    name = os.fsdecode(b'caf\xe9.png')  # latin-1, as old archives hold it
    write_images(tmp_path / 'photos', [name])
    listed = tmp_path / 'list.txt'
    listed.write_bytes(b'caf\xe9.png\n')
    for ann_file in (None, str(listed)):
        item = RegionImageFolder(str(tmp_path / 'photos'), GRID, ann_file=ann_file)[0]
        assert item['img_path'] == str(tmp_path / 'photos' / name)
    cache = FeatureCache(str(tmp_path / 'cache'), 'a', {}, per_region=False)
    assert cache.path(item['img_path'], item['boxes']).parent == cache.folder


def test_errors_before_training_name_what_is_there(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"nowhere/deep, which is no folder.*'b.png'"):
        RegionImageFolder(str(folder / 'nowhere' / 'deep'), GRID)
    empty = tmp_path / 'empty'
    empty.mkdir()
    (empty / 'movie.mp4').write_bytes(b'x')
    with pytest.raises(ValueError, match=r"got none.*1 entries: \['movie.mp4'\]"):
        RegionImageFolder(str(empty), GRID)
    listed = tmp_path / 'list.txt'
    listed.write_text('b.png\nmissing.png\n')
    with pytest.raises(FileNotFoundError, match=r'2 names of which 1 do not exist.*missing.png'):
        RegionImageFolder(str(folder), GRID, ann_file=str(listed))
    with pytest.raises(FileNotFoundError, match='no file'):
        RegionImageFolder(str(folder), GRID, ann_file=str(tmp_path / 'gone.json'))
    with pytest.raises(ValueError, match='limit'):
        RegionImageFolder(str(folder), GRID, limit=0)
    with pytest.raises(ValueError, match='NoSuchRegions'):
        RegionImageFolder(str(folder), {'type': 'NoSuchRegions'})


def test_bad_image_is_reported_and_not_swapped(folder: Path) -> None:
    (folder / 'b.png').write_bytes(b'')
    dataset = RegionImageFolder(str(folder), GRID)
    assert dataset[2] == {'bad_image': (str(folder / 'b.png'), 'zero-byte file')}
    batch = collate_regions([dataset[i] for i in range(5)])
    assert batch['img_ids'] == [0, 1, 3, 4]
    assert [len(batch[key]) for key in ('inputs', 'boxes', 'img_paths', 'epochs')] == [4] * 4
    assert batch['bad_images'] == [(str(folder / 'b.png'), 'zero-byte file')]
    only_bad = collate_regions([dataset[2]])
    assert only_bad['inputs'] == only_bad['boxes'] == only_bad['img_ids'] == []


def test_labels_pass_through(folder: Path) -> None:
    def sampler(width: int, height: int, generator: np.random.Generator, img_path: str) -> tuple:
        return np.array([[0, 0, 1, 1]], np.float32), np.array([7])

    dataset = RegionImageFolder(str(folder), sampler)
    assert collate_regions([dataset[0], dataset[1]])['labels'][1].tolist() == [7]


def test_two_workers_equal_none(folder: Path) -> None:
    (folder / 'd.bmp').write_bytes(b'')

    def run(workers: int) -> list[tuple]:
        loader = Runner.build_dataloader(
            {
                'batch_size': 2,
                'num_workers': workers,
                'persistent_workers': workers > 0,
                'dataset': {
                    'type': 'RegionImageFolder',
                    'data_root': str(folder),
                    'region_sampler': GRID,
                },
                'sampler': {'type': 'EpochSampler', 'shuffle': True},
                'collate_fn': {'type': 'collate_regions'},
            },
            seed=5,
        )
        rows = []
        for epoch in range(2):
            loader.sampler.set_epoch(epoch)
            for batch in loader:
                assert set(batch['epochs']) <= {epoch}
                boxes = [box.tolist() for box in batch['boxes']]
                rows.append((batch['img_ids'], boxes, batch['bad_images']))
        return rows

    alone, workers = run(0), run(2)
    assert alone == workers
    assert sorted(i for ids, _, _ in alone[:3] for i in ids) == [0, 1, 2, 4]
    assert sum(len(bad) for _, _, bad in alone) == 2  # once per epoch


def test_coco_photos(shared_data: Path) -> None:
    dataset = RegionImageFolder(str(shared_data / 'coco' / 'train2017'), GRID)
    assert len(dataset) == 100
    batch = collate_regions([dataset[i] for i in range(8)])
    assert batch['bad_images'] == []
    assert all(image.shape[0] == 3 and image.float().std() > 10 for image in batch['inputs'])


def test_a_folder_that_must_not_be_entered_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def walk(top: Path, onerror: Any) -> Iterator[tuple[str, list[str], list[str]]]:
        yield str(top), ['lost+found'], ['a.jpg']
        onerror(PermissionError(13, 'Permission denied', 'lost+found'))

    monkeypatch.setattr('refineclip.datasets.image_folder.os.walk', walk)
    with mock.patch('refineclip.datasets.image_folder.print_log') as log:
        assert list_images(tmp_path) == ['a.jpg']
    assert log.call_args[0] == ('images below lost+found are left out: Permission denied',)


@pytest.mark.parametrize('root', ['', None])
def test_no_folder_is_not_the_current_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, root: Any
) -> None:
    monkeypatch.chdir(write_images(tmp_path, ['a.png']))
    with pytest.raises(FileNotFoundError, match='data_root: expected a folder of images, got'):
        RegionImageFolder(root, GRID)
