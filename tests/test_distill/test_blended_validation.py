"""Validation of the blended weights, and a training that does not notice it."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from mmengine.evaluator import BaseMetric
from mmengine.hooks import Hook
from mmengine.registry import HOOKS, METRICS, MODELS
from mmengine.runner import BaseLoop
from torch import nn

from refineclip.distill import WeightEnsembleHook
from refineclip.distill.hooks.weight_ensemble_hook import blended

from .toy_runs import assert_same_state, run_config, train, write_images
from .toys import STUDENT


@METRICS.register_module()
class ToyMapMetric(BaseMetric):
    """Mean of the dense maps, which moves with every weight."""

    default_prefix = 'map'

    def process(self, data_batch: Any, data_samples: Any) -> None:
        """Keep one number per image."""
        self.results += [sample['map'].double().mean().item() for sample in data_samples]

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Average."""
        return {'mean': sum(results) / len(results)}


@HOOKS.register_module()
class ToyImageHook(Hook):
    """Adds a number to a validation as ImageLevelHook does, of the weights that it finds."""

    priority = 'HIGHEST'

    def after_val_epoch(self, runner: Any, metrics: dict[str, float] | None = None) -> None:
        """Measure."""
        assert metrics is not None
        metrics['weight'] = float(next(runner.model.student.parameters()).double().sum())


class DownError(Exception):
    """Raised by a validation."""


@METRICS.register_module()
class ToyDownMetric(ToyMapMetric):
    """Fails when asked."""

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Fail."""
        raise DownError


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return write_images(tmp_path / 'images', 4)


def config_of(
    images: Path, work_dir: Path, validate: str, metric: str = 'ToyMapMetric', alpha: float = 0.7
) -> Any:
    cfg = run_config(
        images,
        work_dir,
        custom_hooks=[
            dict(type='ToyImageHook'),
            dict(type='WeightEnsembleHook', alpha=alpha, validate=validate),
        ],
        val_cfg=dict(type='ValLoop'),
        val_evaluator=[dict(type=metric)],
    )
    cfg.val_dataloader = dict(
        cfg.train_dataloader, sampler=dict(type='DefaultSampler', shuffle=False)
    )
    cfg.default_hooks.checkpoint.update(save_best='weight', rule='greater')
    return cfg


def curves(work_dir: Path) -> list[dict[str, float]]:
    path = next(work_dir.rglob('vis_data/scalars.json'))
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [row for row in rows if 'map/mean' in row]


def state_of(path: Path, prefix: str = '') -> dict[str, torch.Tensor]:
    state = torch.load(path, weights_only=False)['state_dict']
    return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}


def first_sum(state: dict[str, torch.Tensor]) -> float:
    name = next(name for name, _ in MODELS.build(STUDENT).named_parameters())
    return float(state[name].double().sum())


def test_measures_the_file_that_it_saves_and_training_goes_on(images: Path, tmp_path: Path) -> None:
    final = train(config_of(images, tmp_path / 'both', 'both'))
    raw_final = train(config_of(images, tmp_path / 'raw', 'raw'))
    assert_same_state(final, raw_final)
    rows, raw_rows = curves(tmp_path / 'both'), curves(tmp_path / 'raw')
    assert len(rows) == len(raw_rows) == 2
    for epoch, row, raw in zip((1, 2), rows, raw_rows, strict=True):
        assert 'raw/map/mean' not in raw
        assert row['raw/map/mean'] == raw['map/mean']
        assert abs(row['map/mean'] - raw['map/mean']) > 1e-6
        refined = state_of(tmp_path / f'both/refined_epoch_{epoch}.pth')
        student = state_of(tmp_path / f'both/epoch_{epoch}.pth', 'student.')
        assert row['weight'] == pytest.approx(first_sum(refined), rel=1e-9)
        assert raw['weight'] == pytest.approx(first_sum(student), rel=1e-9)
    optimizers = [
        torch.load(tmp_path / name / 'epoch_2.pth', weights_only=False)['optimizer']['state']
        for name in ('both', 'raw')
    ]
    for index, slots in optimizers[0].items():
        assert all(torch.equal(v, optimizers[1][index][k]) for k, v in slots.items())
    # What save_best wrote in the middle of a validation is a training state all the same.
    best = next((tmp_path / 'both').glob('best_*.pth'))
    epoch = int(best.stem[-1])
    assert_same_state(state_of(best), state_of(tmp_path / f'both/epoch_{epoch}.pth'))


def test_an_error_in_validation_gives_the_student_back(images: Path, tmp_path: Path) -> None:
    from mmengine.runner import Runner

    cfg = config_of(images, tmp_path / 'run', 'blended', 'ToyDownMetric')
    cfg.experiment_name = 'an-error-in-validation'
    runner = Runner.from_cfg(cfg)
    with pytest.raises(DownError):
        runner.train()
    expected = state_of(tmp_path / 'run/epoch_1.pth', 'student.')
    assert_same_state(dict(runner.model.student.state_dict()), expected)


def test_blend_by_hand_and_back() -> None:
    student, base = nn.BatchNorm1d(1), nn.BatchNorm1d(1)
    student.weight.data.fill_(1.1)
    base.weight.data.fill_(0.1)
    student.num_batches_tracked.fill_(7)
    before = student.weight.detach().clone()
    parameter = student.weight
    with blended(student, base, 0.7) as own:
        assert student.weight.item() == pytest.approx(0.7 * 1.1 + 0.3 * 0.1)
        assert student.num_batches_tracked.item() == 7
        assert torch.equal(own['weight'], before)
    assert student.weight is parameter
    assert torch.equal(student.weight, before)


def test_wrapped_model_is_blended_once() -> None:
    """In every process the module within the wrapper, however often a run begins."""
    model = nn.Module()
    model.student, model.teacher = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
    model.student.weight.data.fill_(1.0)
    model.teacher.weight.data.fill_(0.0)

    class Loop(BaseLoop):
        def __init__(self) -> None:
            pass

        def run(self) -> dict[str, float]:
            return {'weight': model.student.weight.item()}

    loop = Loop()
    runner = SimpleNamespace(model=nn.DataParallel(model), _val_loop=loop, _test_loop=None)
    hook = WeightEnsembleHook(alpha=0.25)
    hook.before_run(runner)
    hook.before_run(runner)
    assert loop.run() == {'weight': 0.25}
    assert model.student.weight.item() == 1


def test_unknown_way_to_validate() -> None:
    with pytest.raises(ValueError, match=r"validate: expected one of .*, got 'ema'"):
        WeightEnsembleHook(validate='ema')
