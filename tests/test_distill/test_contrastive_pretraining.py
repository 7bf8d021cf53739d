"""Pre-training of a CLIP: its loss by hand, wrong input, and a run through the runner."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import Runner
from torch.nn import functional as F

import refineclip.distill.contrastive_pretraining as pretraining
from refineclip.commands.export import main as export
from refineclip.distill.contrastive_pretraining import ContrastivePretraining
from refineclip.encoders import build_clip

CAPTIONS = ['a fish', 'a boat on sand', 'a fish and a tree']


@pytest.fixture
def model() -> ContrastivePretraining:
    return ContrastivePretraining('microworld-clip')


def test_loss_is_the_symmetric_cross_entropy_of_the_cosines(model):
    images = torch.randn(3, 3, 64, 64)
    loss = model(images, CAPTIONS, mode='loss')['loss_contrastive']
    clip = model.clip
    rows, columns = (
        F.normalize(x, dim=-1) for x in (clip(images), clip.text(clip.tokenizer(CAPTIONS)))
    )
    logits = rows @ columns.T / 0.07
    expected = -(logits.log_softmax(0).diag() + logits.log_softmax(1).diag()).mean() / 2
    torch.testing.assert_close(loss, expected, rtol=1e-4, atol=1e-4)
    loss.backward()
    without = [name for name, p in model.named_parameters() if p.grad is None]
    assert without == []


def test_scale_is_clamped_at_a_hundred(model):
    model.clip.logit_scale.data.fill_(10.0)
    model(torch.randn(2, 3, 64, 64), CAPTIONS[:2], mode='loss')
    assert model.clip.logit_scale.item() == pytest.approx(math.log(100))


def test_other_modes_give_image_embeddings(model):
    images = torch.randn(2, 3, 64, 64)
    for mode in ('tensor', 'predict'):
        assert torch.equal(model(images, mode=mode), model.clip(images))
    assert model(images).shape == (2, 128)


def test_loss_without_captions_is_refused(model):
    with pytest.raises(ValueError, match='data_samples: expected one caption per image, got None'):
        model(torch.randn(2, 3, 64, 64), mode='loss')


def test_model_without_text_is_refused(monkeypatch):
    monkeypatch.setattr(
        pretraining, 'build_clip', lambda model, pretrained: build_clip(model, text=False)
    )
    with pytest.raises(ValueError, match='expected a model with a text tower'):
        ContrastivePretraining('microworld-clip')


PARTS = ('1xb256-1500i_pairs-32', '1xb64-1000i_pairs-64', '1xb32-300i_pairs-128')


def _train(path: Path, work_dir: Path, load_from: Path | None) -> Path:
    config = Config.fromfile(path)
    config.work_dir = str(work_dir)
    config.train_dataloader.batch_size = 8
    config.train_dataloader.dataset.num_images = 16
    config.train_cfg.max_iters = 3
    config.default_hooks.checkpoint.interval = 3
    config.load_from = load_from and str(load_from)
    Runner.from_cfg(config).train()
    return work_dir / 'iter_3.pth'


def test_the_configs_train_in_turn_repeat_and_export(repo_root: Path, tmp_path: Path):
    checkpoints = []
    for name in ('first', 'second'):
        last = None
        for part in PARTS:
            path = repo_root / f'configs/microworld/microworld-clip_{part}.py'
            last = _train(path, tmp_path / name / part, last)
        checkpoints.append(last)
    first, second = (torch.load(c, weights_only=False)['state_dict'] for c in checkpoints)
    assert all(torch.equal(second[key], value) for key, value in first.items())

    out = tmp_path / 'exported'
    argv = ['open-clip', str(checkpoints[0]), '--model', 'microworld-clip', '--half']
    assert export([*argv, '--out', str(out)]) == 0
    exported = build_clip(f'local-dir:{out}').state_dict()
    for key, value in exported.items():
        torch.testing.assert_close(value, first[f'clip.{key}'], rtol=1e-3, atol=1e-4)


def test_each_part_goes_on_from_the_one_before(repo_root: Path):
    for before, part in itertools.pairwise(PARTS):
        config = Config.fromfile(repo_root / f'configs/microworld/microworld-clip_{part}.py')
        steps = Config.fromfile(
            repo_root / f'configs/microworld/microworld-clip_{before}.py'
        ).train_cfg.max_iters
        assert config.load_from == f'work_dirs/microworld-clip_{before}/iter_{steps}.pth'
