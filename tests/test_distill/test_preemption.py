"""SIGTERM: a whole checkpoint at the next step, status 143, and a resume that equals no stop."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from refineclip.distill.hooks.atomic_checkpoint_hook import find_resumable

from .toy_runs import assert_same_state, run_config, stage2_model, train, write_images

PREEMPTION = dict(type='PreemptionHook')


@pytest.fixture(autouse=True)
def own_signals() -> Iterator[None]:
    """A run that an error ends leaves the process, and with it its handlers."""
    numbers = (signal.SIGTERM, signal.SIGCHLD)
    before = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


@HOOKS.register_module()
class TerminateHook(Hook):
    """Send SIGTERM to this process, or its whole group, in iteration ``at``."""

    def __init__(self, at: int, group: bool = False) -> None:
        self.at, self.group = at, group

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        if runner.iter == self.at and runner.rank == runner.world_size - 1:
            (os.killpg if self.group else os.kill)(os.getpid(), signal.SIGTERM)


@HOOKS.register_module()
class FailingHook(Hook):
    """End the run by an error."""

    def after_train_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        raise RuntimeError('no more')


@pytest.fixture
def images(tmp_path: Path) -> Path:
    return write_images(tmp_path / 'images')


def config(images: Path, work_dir: Path, **options: Any) -> Config:
    cfg = run_config(images, work_dir, **options)
    cfg.default_hooks.preemption = PREEMPTION
    cfg.custom_hooks = [dict(type='WeightEnsembleHook')]
    return cfg


def train_terminated(cfg: Config, at: int) -> None:
    cfg.custom_hooks.append(dict(type='TerminateHook', at=at))
    with pytest.raises(SystemExit) as ended:
        train(cfg)
    assert ended.value.code == 143
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_what_runs_that_an_error_ended_left_is_taken_away(images: Path, tmp_path: Path) -> None:
    for name in ('first', 'second'):
        cfg = config(images, tmp_path / name)
        cfg.custom_hooks.append(dict(type='FailingHook'))
        with pytest.raises(RuntimeError, match='no more'):
            train(cfg)
        assert signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
    train(config(images, tmp_path / 'third'))
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_iterations(images: Path, tmp_path: Path) -> None:
    """Interval 2: iterations 2 and 4 are saved anyway, 5 because the process had to leave."""
    whole = train(config(images, tmp_path / 'whole', iters=8))
    parts = tmp_path / 'parts'
    train_terminated(config(images, parts, iters=8), at=4)
    assert find_resumable(parts).name == 'iter_5.pth'
    assert (parts / 'refined_iter_5.pth').exists()
    assert_same_state(whole, train(config(images, parts, iters=8, resume=True)))


def test_in_the_middle_of_an_epoch(images: Path, tmp_path: Path) -> None:
    """Four batches are an epoch; the signal comes in the second of the second."""
    whole = train(config(images, tmp_path / 'whole', epochs=3))
    parts = tmp_path / 'parts'
    train_terminated(config(images, parts, epochs=3), at=5)
    assert find_resumable(parts).name == 'epoch_1_iter_6.pth'
    assert (parts / 'refined_epoch_1_iter_6.pth').exists()
    resumed = config(images, parts, epochs=3, resume=True)
    resumed.load_from = str(find_resumable(parts))
    assert_same_state(whole, train(resumed))
    assert sorted(path.name for path in parts.glob('epoch*.pth')) == [
        *('epoch_1.pth', 'epoch_2.pth', 'epoch_3.pth'),
    ]
    assert not list(parts.glob('refined_*_iter_*.pth'))


def test_another_number_of_batches_is_refused(images: Path, tmp_path: Path) -> None:
    train_terminated(config(images, tmp_path, epochs=3), at=5)
    resumed = config(images, tmp_path, epochs=3, batch_size=1, resume=True)
    resumed.load_from = str(find_resumable(tmp_path))
    with pytest.raises(ValueError, match=r'expected 4 batches per epoch .* after 2 .* got 8'):
        train(resumed)


def test_an_accumulated_step_is_finished(images: Path, tmp_path: Path) -> None:
    """Three batches make a step; the signal comes in the first of the second."""
    options = dict(optimizer=dict(type='AdamW', lr=1e-2), accumulative_counts=3)
    cfgs = [config(images, tmp_path / name, iters=9) for name in ('whole', 'parts', 'parts')]
    for cfg in cfgs:
        cfg.optim_wrapper = options
        cfg.default_hooks.checkpoint.interval = 100
    whole = train(cfgs[0])
    train_terminated(cfgs[1], at=3)
    assert find_resumable(tmp_path / 'parts').name == 'iter_6.pth'
    cfgs[2].resume = True
    assert_same_state(whole, train(cfgs[2]))


def test_needs_a_checkpoint_hook_of_ours(images: Path, tmp_path: Path) -> None:
    cfg = config(images, tmp_path, iters=2)
    cfg.default_hooks.checkpoint = dict(type='CheckpointHook', interval=2, by_epoch=False)
    with pytest.raises(ValueError, match='expected an AtomicCheckpointHook'):
        train(cfg)


def test_the_last_checkpoint_of_an_epoch_wins(tmp_path: Path) -> None:
    for name in ('epoch_1.pth', 'epoch_1_iter_6.pth', 'refined_epoch_1_iter_6.pth'):
        (tmp_path / name).touch()
    assert find_resumable(tmp_path).name == 'epoch_1_iter_6.pth'
    (tmp_path / 'epoch_2.pth').touch()
    assert find_resumable(tmp_path).name == 'epoch_2.pth'


def launch(command: list[str], root: Path, work_dir: Path) -> int:
    """Run a training as a cluster does, in a session of its own; its exit status."""
    environment = {**os.environ, 'PYTHONPATH': str(root), 'OMP_NUM_THREADS': '1'}
    work_dir.mkdir(exist_ok=True)
    with (work_dir / 'said.txt').open('a') as said:
        process = subprocess.Popen(
            [sys.executable, *command],
            env=environment,
            cwd=root,
            start_new_session=True,
            stdout=said,
            stderr=said,
        )
        return process.wait(timeout=300)


@pytest.mark.slow
def test_the_whole_group_with_a_worker(images: Path, tmp_path: Path, repo_root: Path) -> None:
    """Slurm signals all processes of a step, so the loader's worker dies while the step runs."""
    cfg = config(images, tmp_path / 'whole', iters=8)
    cfg.train_dataloader.num_workers = 1
    whole = train(cfg)
    hook = "dict(type='TerminateHook', at=4, group=True)"
    cfg.work_dir = str(tmp_path / 'parts')
    text = cfg.pretty_text.replace("'refineclip.distill'", "'refineclip.distill', 'terminate'")
    (tmp_path / 'resume.py').write_text(cfg.pretty_text)
    (tmp_path / 'config.py').write_text(f'{text}\ncustom_hooks.append({hook})\n')
    (tmp_path / 'terminate.py').write_text(
        'from tests.test_distill.test_preemption import TerminateHook\n'
    )
    tool, work_dir = str(repo_root / 'tools' / 'train.py'), tmp_path / 'parts'
    start = f'import sys; sys.path.insert(0, {str(tmp_path)!r}); sys.argv = sys.argv[1:]; '
    start += 'import runpy; runpy.run_path(sys.argv[0], run_name="__main__")'
    assert launch(['-c', start, tool, str(tmp_path / 'config.py')], repo_root, work_dir) == 143
    assert find_resumable(work_dir).name == 'iter_5.pth'
    assert launch([tool, str(tmp_path / 'resume.py'), '--resume'], repo_root, work_dir) == 0
    state = torch.load(work_dir / 'iter_8.pth', weights_only=False)['state_dict']
    assert_same_state(whole, dict(state))


@pytest.mark.slow
@pytest.mark.parametrize('by_epoch', [False, True])
def test_two_processes(images: Path, tmp_path: Path, repo_root: Path, by_epoch: bool) -> None:
    """The second process alone gets the signal; both leave, and go on as if they had not."""
    length: dict[str, Any] = dict(epochs=2) if by_epoch else dict(iters=8)
    tool = [str(repo_root / 'tools' / 'train.py')]
    torchrun = ['-m', 'torch.distributed.run', '--standalone', '--nproc-per-node=2']
    last = 'epoch_2.pth' if by_epoch else 'iter_8.pth'
    states = {}
    for name in ('whole', 'parts'):
        cfg = config(images, tmp_path / name, batch_size=1, model=stage2_model('sc-rla'), **length)
        cfg.model_wrapper_cfg = dict(
            type='MMDistributedDataParallel', device_ids=None, find_unused_parameters=True
        )
        cfg.dump(tmp_path / f'{name}.py')
        command = [*torchrun, *tool, str(tmp_path / f'{name}.py'), '--launcher', 'pytorch']
        if name == 'parts':
            cfg.custom_imports.imports.append('tests.test_distill.test_preemption')
            cfg.custom_hooks.append(dict(type='TerminateHook', at=4))
            cfg.dump(tmp_path / 'stopped.py')
            stopped = [*command[:-3], str(tmp_path / 'stopped.py'), *command[-2:]]
            assert launch(stopped, repo_root, tmp_path / name) != 0
            said = (tmp_path / name / 'said.txt').read_text()
            assert 'exitcode  : 143' in said
            stop = find_resumable(tmp_path / name).name
            assert stop == ('epoch_1_iter_5.pth' if by_epoch else 'iter_5.pth')
            command.append('--resume')
        assert launch(command, repo_root, tmp_path / name) == 0
        states[name] = torch.load(tmp_path / name / last, weights_only=False)
    for key in ('state_dict', 'optimizer'):
        first, second = (states[name][key] for name in ('whole', 'parts'))
        if key == 'state_dict':
            assert_same_state(dict(first), dict(second))
        else:
            for index, slots in first['state'].items():
                assert_same_state(slots, second['state'][index])
