"""SCDHook on stock mmdet and mmseg models: logged, differentiable, right in every wrapper."""

from __future__ import annotations

import os

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import DATASETS, HOOKS
from mmengine.runner import Runner

pytest.importorskip('mmseg.models')
pytest.importorskip('mmdet.models')

from . import toy_hosts

pytestmark = pytest.mark.mm
BLOCK = 'backbone.visual.model.transformer.resblocks.1.mlp.c_fc.weight'


class RecordHook(Hook):
    """Keep the logged losses and the gradient of one backbone weight."""

    priority = 'LOWEST'

    def __init__(self) -> None:
        self.logs: list[dict] = []
        self.gradients: list[float] = []

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None):
        self.logs.append({key: float(value) for key, value in outputs.items()})


def host_config(task: str, work_dir, scope: str, **extra) -> Config:
    model = toy_hosts.detector() if task == 'detection' else toy_hosts.segmentor()
    dataset = 'DetectionToys' if task == 'detection' else 'SegmentationToys'
    if dataset not in DATASETS:
        DATASETS.register_module(module=getattr(toy_hosts, dataset))
    return Config(
        dict(
            default_scope=scope,
            work_dir=str(work_dir),
            experiment_name=str(np.random.rand()),  # noqa: NPY002
            model=model,
            train_dataloader=dict(
                batch_size=2,
                num_workers=0,
                sampler=dict(type='InfiniteSampler', shuffle=False),
                collate_fn=dict(type='pseudo_collate'),
                dataset=dict(type=dataset),
            ),
            train_cfg=dict(type='IterBasedTrainLoop', max_iters=3),
            optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.3)),
            default_hooks=dict(checkpoint=None, logger=dict(type='LoggerHook', interval=1)),
            custom_hooks=[
                dict(
                    type='SCDHook',
                    scd=dict(type='SCDLoss', roi_size=2, divergence='kl'),
                    region_sampler=dict(type='GridRegions', max_split=2),
                )
            ],
            randomness=dict(seed=0),
            log_level='ERROR',
            **extra,
        )
    )


def run(config: Config) -> tuple[Runner, RecordHook]:
    runner = Runner.from_cfg(config)
    record = RecordHook()
    runner.register_hook(record)
    runner.train()
    return runner, record


@pytest.mark.parametrize(('task', 'scope'), [('detection', 'mmdet'), ('segmentation', 'mmseg')])
def test_loss_is_logged_and_starts_at_zero(task, scope, tmp_path):
    """The KL form is 0 while student = teacher, then the host's own losses move the student."""
    runner, record = run(host_config(task, tmp_path, scope))
    losses = [log['loss_scd'] for log in record.logs]
    assert losses[0] == pytest.approx(0, abs=1e-6)
    assert losses[1] > 1e-7
    scalars = runner.message_hub.log_scalars
    assert 'train/loss_scd' in scalars
    assert not any('teacher' in name for name in runner.model.state_dict())


def test_a_late_start_runs_no_teacher_before(tmp_path):
    """Three iterations, start .4: 0 and 1 are before it."""
    config = host_config('segmentation', tmp_path, 'mmseg')
    config.custom_hooks[0].scd.update(start=0.4, loss_weight=2.0)
    runner = Runner.from_cfg(config)
    hook = next(h for h in runner.hooks if type(h).__name__ == 'SCDHook')
    record, passes = RecordHook(), []
    runner.register_hook(record)
    find = hook.before_run

    def before_run(runner):
        find(runner)
        hook.teacher.register_forward_pre_hook(lambda *args: passes.append(1))

    hook.before_run = before_run
    runner.train()
    assert [log['scd_weight'] for log in record.logs] == [0, 0, 2]
    assert [log['loss_scd'] > 0 for log in record.logs] == [False, False, True]
    assert len(passes) == 1


@pytest.mark.parametrize('accumulative_counts', [1, 3])
def test_gradient_reaches_the_backbone(tmp_path, accumulative_counts):
    """With another teacher, SCD moves the blocks far more than the host's own losses do."""
    config = host_config('segmentation', tmp_path, 'mmseg')
    config.custom_hooks[0]['teacher'] = toy_hosts.BACKBONE
    config.custom_hooks[0]['scd']['loss_weight'] = 1e4
    config.train_cfg.max_iters = accumulative_counts
    config.optim_wrapper.accumulative_counts = accumulative_counts
    runner = Runner.from_cfg(config)
    before = runner.model.state_dict()[BLOCK].clone()
    runner.train()
    with_scd = (runner.model.state_dict()[BLOCK] - before).abs().max()
    config = host_config('segmentation', tmp_path, 'mmseg')
    config.custom_hooks, config.train_cfg.max_iters = [], accumulative_counts
    config.optim_wrapper.accumulative_counts = accumulative_counts
    plain = Runner.from_cfg(config)
    plain.train()
    without = (plain.model.state_dict()[BLOCK] - before).abs().max()
    assert with_scd > 2 * without


def test_autocast(tmp_path):
    config = host_config('segmentation', tmp_path, 'mmseg')
    runner = Runner.from_cfg(config)
    hook = next(h for h in runner.hooks if type(h).__name__ == 'SCDHook')
    hook.before_run(runner)
    hook.before_train(runner)
    items = [toy_hosts.SegmentationToys()[i] for i in range(2)]
    data = {key: [item[key] for item in items] for key in items[0]}
    with torch.autocast('cpu', dtype=torch.bfloat16):
        losses = runner.model(**runner.model.data_preprocessor(data, True), mode='loss')
    assert losses['loss_scd'].dtype == torch.float32
    assert torch.isfinite(losses['loss_scd'])


def test_evaluation_is_untouched(tmp_path):
    runner, _ = run(host_config('segmentation', tmp_path, 'mmseg'))
    assert not runner.model._forward_hooks
    assert not runner.model.backbone._forward_hooks


@pytest.mark.parametrize(
    ('change', 'message'),
    [(dict(backbone='neck.body'), 'expected a backbone'), (dict(frozen=True), 'frozen=False')],
)
def test_wrong_host(change, message, tmp_path):
    config = host_config('segmentation', tmp_path, 'mmseg')
    if 'frozen' in change:
        config.model.backbone.frozen = True
    else:
        config.custom_hooks[0].update(change)
    with pytest.raises(TypeError, match=message):
        run(config)


def _run_rank(rank: int, file: str, port: int) -> None:
    torch.set_num_threads(1)
    os.environ.update(
        RANK=str(rank),
        LOCAL_RANK=str(rank),
        WORLD_SIZE='2',
        MASTER_ADDR='127.0.0.1',
        MASTER_PORT=str(port),
    )
    torch.distributed.init_process_group('gloo')
    DATASETS.register_module(module=toy_hosts.SegmentationToys)
    config = Config.fromfile(file)
    runner, record = run(config)
    state = runner.model.module.state_dict()
    torch.save((state, record.logs), f'{config.work_dir}/rank_{rank}.pth')


@pytest.mark.slow
def test_two_processes_stay_equal(tmp_path):
    """DDP must see the term: the ranks' weights agree after each step."""
    import socket

    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        port = probe.getsockname()[1]
    config = host_config(
        'segmentation',
        tmp_path,
        'mmseg',
        launcher='pytorch',
        model_wrapper_cfg=dict(
            type='MMDistributedDataParallel', device_ids=None, find_unused_parameters=True
        ),
    )
    config.dump(tmp_path / 'config.py')
    torch.multiprocessing.spawn(_run_rank, args=(str(tmp_path / 'config.py'), port), nprocs=2)
    (first, logs), (second, _) = (torch.load(tmp_path / f'rank_{rank}.pth') for rank in range(2))
    trained = [name for name in first if 'backbone.visual' in name]
    assert all(torch.equal(first[name], second[name]) for name in trained)
    assert logs[-1]['loss_scd'] > 0


def test_sampler_of_file_boxes_is_refused(tmp_path):
    (tmp_path / 'boxes.json').write_text('{"a.jpg": [[0, 0, 9, 9]]}')
    sampler = dict(type='ProposalRegions', proposal_file=str(tmp_path / 'boxes.json'))
    with pytest.raises(ValueError, match='hosts flip and crop'):
        HOOKS.build(dict(type='SCDHook', region_sampler=sampler))
