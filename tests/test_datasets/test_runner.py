"""The input side under mmengine's real runner: loops, sampler, collation, preprocessor, hook."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from mmengine.runner import Runner, loops
from PIL import Image
from torch import Tensor, nn

import refineclip.distill.region_preprocessor
import refineclip.distill.regions  # noqa: F401  (both register what the configs name)
from refineclip.datasets import TooManyBadImagesError
from refineclip.distill.region_batch import RegionBatch


class Recorder(BaseModel):
    """Toy model that remembers which images, epochs and boxes it was given."""

    def __init__(self, data_preprocessor: dict) -> None:
        super().__init__(data_preprocessor)
        self.weight = nn.Parameter(torch.ones(1))
        self.seen: list[tuple] = []

    def forward(self, inputs: RegionBatch, mode: str = 'loss') -> dict[str, Tensor]:
        row = (inputs.img_ids.tolist(), inputs.epochs.tolist(), inputs.regions.tolist())
        self.seen.append(row)
        return {'loss': self.weight.sum() + inputs.images.sum() * 0}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / 'images'
    folder.mkdir()
    for index in range(5):
        Image.new('RGB', (48, 40), (index, 0, 0)).save(folder / f'{index}.png')
    return folder


def train(folder: Path, work_dir: Path, sampler: str, iters: int, **settings: Any) -> Recorder:
    MODELS.register_module(name='Recorder', module=Recorder, force=True)
    runner = Runner(
        model={
            'type': 'Recorder',
            'data_preprocessor': {
                'type': 'RegionPreprocessor',
                'mean': [128] * 3,
                'std': [64] * 3,
                'image_size': 32,
                'crop_size': 16,
            },
        },
        work_dir=str(work_dir),
        train_dataloader={
            'batch_size': 2,
            'num_workers': settings.get('num_workers', 0),
            'sampler': {'type': sampler},
            'collate_fn': {'type': 'collate_regions'},
            'dataset': {
                'type': 'RegionImageFolder',
                'data_root': str(folder),
                'region_sampler': {'type': 'GridRegions'},
            },
        },
        train_cfg=settings.get('train_cfg', {'by_epoch': False, 'max_iters': iters}),
        optim_wrapper={'optimizer': {'type': 'SGD', 'lr': 0.1}},
        default_hooks={'checkpoint': {'type': 'CheckpointHook', 'interval': 3, 'by_epoch': False}},
        custom_hooks=[
            {'type': 'BadImageHook', 'max_bad_fraction': settings.get('max_bad_fraction', 0.01)}
        ],
        resume=settings.get('resume', False),
        randomness={'seed': 0},
        default_scope='mmengine',
        experiment_name=work_dir.name,
    )
    model = runner.train()
    # End the workers now: when the garbage collector does it, each takes a time-out of 5 s.
    runner.train_loop.dataloader_iterator = None
    return model


@pytest.mark.parametrize('workers', [0, 2])
def test_resumed_run_sees_what_the_whole_run_sees(
    folder: Path, tmp_path: Path, workers: int
) -> None:
    options = {'sampler': 'InfiniteEpochSampler', 'num_workers': workers}
    whole = train(folder, tmp_path / f'whole{workers}', iters=7, **options).seen
    first = train(folder, tmp_path / f'cut{workers}', iters=3, **options).seen
    second = train(folder, tmp_path / f'cut{workers}', iters=7, resume=True, **options).seen
    assert first + second == whole
    images = [(image, epoch) for row in whole for image, epoch in zip(*row[:2], strict=True)]
    assert sorted(images[:10]) == sorted((image, epoch) for image in range(5) for epoch in (0, 1))


@pytest.mark.parametrize('by_epoch', [False, True])
def test_epoch_sampler_in_both_loops(
    folder: Path, tmp_path: Path, by_epoch: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loops.time, 'sleep', lambda seconds: None)
    train_cfg = {'by_epoch': True, 'max_epochs': 2} if by_epoch else {'by_epoch': False}
    if not by_epoch:
        train_cfg['max_iters'] = 6
    model = train(folder, tmp_path / f'e{by_epoch}', 'EpochSampler', 6, train_cfg=train_cfg)
    assert [row[1] for row in model.seen] == [[0, 0], [0, 0], [0], [1, 1], [1, 1], [1]]
    assert sorted(image for row in model.seen[3:] for image in row[0]) == [0, 1, 2, 3, 4]


def test_bad_images_are_counted_in_training(folder: Path, tmp_path: Path) -> None:
    (folder / '3.png').write_bytes(b'')
    options = {'sampler': 'InfiniteEpochSampler', 'iters': 6}
    model = train(folder, tmp_path / 'few', max_bad_fraction=0.2, **options)
    assert {image for row in model.seen for image in row[0]} == {0, 1, 2, 4}
    text = next((tmp_path / 'few').rglob('*.log')).read_text()
    assert text.count(f'Skipped image {folder}/3.png: zero-byte file') == 1
    assert f'1 of 5 images could not be used and were skipped: {folder}/3.png' in text
    with pytest.raises(TooManyBadImagesError, match=r'at most 0\.05 .* of 5'):
        train(folder, tmp_path / 'many', **options)
