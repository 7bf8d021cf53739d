from __future__ import annotations

import pytest
from mmengine.config import Config
from mmengine.runner import Runner

from refineclip.datasets import loader_settings
from refineclip.datasets.loader_settings import settle_workers


def config(num_workers: int) -> Config:
    loader = dict(
        dataset=[1, 2, 3],
        sampler=dict(type='DefaultSampler', shuffle=False),
        batch_size=2,
        num_workers=num_workers,
        persistent_workers=True,
        prefetch_factor=4,
    )
    return Config(dict(train_dataloader=loader, val_dataloader=None, test_dataloader=dict(loader)))


def test_loaders_without_workers_can_be_built(monkeypatch: pytest.MonkeyPatch) -> None:
    lines: list[str] = []
    monkeypatch.setattr(loader_settings, 'print_log', lambda text, **_: lines.append(text))
    cfg = config(0)
    settle_workers(cfg)
    settle_workers(cfg)  # nothing is left to say
    assert [line.partition(':')[0] for line in lines] == ['train_dataloader', 'test_dataloader']
    assert all('persistent_workers and prefetch_factor' in line for line in lines)
    for name in ('train_dataloader', 'test_dataloader'):
        built = Runner.build_dataloader(cfg[name].to_dict(), seed=0)
        assert [len(batch) for batch in built] == [2, 1]


def test_loaders_with_workers_keep_their_settings() -> None:
    cfg = config(2)
    settle_workers(cfg)
    assert cfg.to_dict() == config(2).to_dict()
