"""Runs end to end: resume is exact, two processes are one, nothing half-written, SCD elsewhere."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.registry import MODELS

from refineclip.distill.distillation_model import NonFiniteLossError
from refineclip.distill.hooks.atomic_checkpoint_hook import (
    AtomicCheckpointHook,
    AtomicLocalBackend,
    find_resumable,
)
from refineclip.distill.losses import SCDLoss
from refineclip.distill.region_alignment import RegionAlignment

from .toy_runs import (
    assert_same_state,
    run_config,
    stage2_model,
    train,
    train_interrupted,
    write_images,
)
from .toys import STUDENT, TOWER


@pytest.fixture
def images(tmp_path):
    return write_images(tmp_path / 'images')


def stage1_model():
    return dict(
        type='RefinerTraining',
        encoder=dict(**STUDENT, refiner=dict(num_blocks=2)),
        loss=dict(type='RefineLoss', roi_size=2),
        data_preprocessor=stage2_model()['data_preprocessor'],
    )


def test_both_stages_and_the_backbone(images, tmp_path):
    """Stage 1 -> stage 2 -> RefinerCLIP by name, through files only."""
    train(run_config(images, tmp_path / 'refiner', stage1_model(), epochs=1))
    refiner = dict(num_blocks=2, checkpoint=str(tmp_path / 'refiner' / 'epoch_1.pth'))
    model = stage2_model('r-sc-rla')
    model['refiner'] = refiner
    state = train(
        run_config(
            images,
            tmp_path / 'student',
            model,
            epochs=1,
            custom_hooks=[dict(type='WeightEnsembleHook', alpha=0.7)],
        )
    )
    stage1 = torch.load(tmp_path / 'refiner' / 'epoch_1.pth', weights_only=False)['state_dict']
    key = 'refiner.blocks.0.mlp.c_fc.weight'
    assert torch.equal(state[f'teacher.{key}'], stage1[f'encoder.{key}'])

    refined = tmp_path / 'student' / 'refined_epoch_1.pth'
    backbone = MODELS.build(
        dict(**STUDENT, init_cfg=dict(type='Pretrained', checkpoint=str(refined)))
    )
    backbone.init_weights()
    for name, value in backbone.state_dict().items():
        expected = 0.7 * state[f'student.{name}'] + 0.3 * state[f'teacher.{name}']
        torch.testing.assert_close(value, expected, atol=1e-6, rtol=1e-5)
    same = MODELS.build({**STUDENT, 'pretrained': str(refined)})
    assert_same_state(dict(same.state_dict()), dict(backbone.state_dict()))


def test_resume_after_an_epoch_is_exact(images, tmp_path):
    whole = train(run_config(images, tmp_path / 'whole', stage1_model(), epochs=3))
    train_interrupted(run_config(images, tmp_path / 'parts', stage1_model(), epochs=3), at=6)
    resumed = train(run_config(images, tmp_path / 'parts', stage1_model(), epochs=3, resume=True))
    assert_same_state(whole, resumed)


def test_resume_in_the_middle_of_an_epoch_is_exact(images, tmp_path):
    """4 iterations make an epoch; the run dies in the second, one iteration after a checkpoint."""
    whole = train(run_config(images, tmp_path / 'whole', iters=10))
    train_interrupted(run_config(images, tmp_path / 'parts', iters=10), at=7)
    resumed = train(run_config(images, tmp_path / 'parts', iters=10, resume=True))
    assert_same_state(whole, resumed)
    optimizers = [
        torch.load(tmp_path / name / 'iter_10.pth', weights_only=False)['optimizer']['state']
        for name in ('whole', 'parts')
    ]
    for index, slots in optimizers[0].items():
        for slot, value in slots.items():
            assert torch.equal(value, optimizers[1][index][slot])


def late_start_config(images, work_dir, start, iters, **extra):
    config = run_config(images, work_dir, iters=iters, **extra)
    config.model.scd.start = start
    return config


def test_scd_starts_late_and_costs_nothing_before(images, tmp_path, monkeypatch):
    """Ten iterations, start .3: weight 0 in iterations 0 to 3, and the teacher's map not made."""
    made, logs = [], []
    target_map, logged = RegionAlignment._target_map, SCDLoss.logged
    monkeypatch.setattr(
        RegionAlignment, '_target_map', lambda self, b: made.append(len(b)) or target_map(self, b)
    )
    monkeypatch.setattr(
        SCDLoss, 'logged', lambda self, *args: logs.append(logged(self, *args)) or logs[-1]
    )
    train(late_start_config(images, tmp_path / 'late', 0.3, 10))
    assert [log['scd_weight'].item() for log in logs] == [0.0] * 4 + [1.0] * 6
    assert all((log['loss_scd'] == 0) == (log['scd_weight'] == 0) for log in logs)
    assert len(made) == 6


def test_a_late_start_is_exact_under_resume(images, tmp_path):
    """The run dies before SCD sets in, and goes on from the checkpoint of iteration 2."""
    whole = train(late_start_config(images, tmp_path / 'whole', 0.5, 6))
    train_interrupted(late_start_config(images, tmp_path / 'parts', 0.5, 6), at=3)
    resumed = train(late_start_config(images, tmp_path / 'parts', 0.5, 6, resume=True))
    assert_same_state(whole, resumed)


def test_killed_run_resumes_exactly(images, tmp_path, repo_root):
    """SIGKILL as soon as the second checkpoint appears, then ``--resume``."""
    whole = train(run_config(images, tmp_path / 'whole', iters=8))
    config = run_config(images, tmp_path / 'killed', iters=8)
    config.dump(tmp_path / 'config.py')
    command = [sys.executable, str(repo_root / 'tools' / 'train.py'), str(tmp_path / 'config.py')]
    environment = {**os.environ, 'PYTHONPATH': str(repo_root), 'OMP_NUM_THREADS': '1'}
    process = subprocess.Popen(command, env=environment, cwd=tmp_path, stdout=subprocess.DEVNULL)
    while not (tmp_path / 'killed' / 'iter_4.pth').exists():
        assert process.poll() is None, 'training ended before it was killed'
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    for checkpoint in (tmp_path / 'killed').glob('iter_*.pth'):
        torch.load(checkpoint, weights_only=False)  # whole, or it would not load
    subprocess.run(
        [*command, '--resume'], env=environment, cwd=tmp_path, check=True, stdout=subprocess.DEVNULL
    )
    final = torch.load(tmp_path / 'killed' / 'iter_8.pth', weights_only=False)['state_dict']
    assert_same_state(whole, dict(final), atol=0 if torch.get_num_threads() == 1 else 1e-6)


def test_no_part_of_a_file_ever_appears(tmp_path, monkeypatch):
    """A write that dies leaves the old file whole and no temporary one."""
    target = tmp_path / 'last.pth'
    AtomicLocalBackend().put(b'old', target)

    def die(*args):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, 'fsync', die)
    with pytest.raises(KeyboardInterrupt):
        AtomicLocalBackend().put(b'new and longer', target)
    assert target.read_bytes() == b'old'
    assert [path.name for path in tmp_path.iterdir()] == ['last.pth']


def test_newest_checkpoint_wins_over_an_empty_pointer(tmp_path):
    assert find_resumable(tmp_path) is None
    for index, name in enumerate(['iter_2.pth', 'iter_4.pth', 'refined_iter_9.pth']):
        (tmp_path / name).write_bytes(b'x')
        os.utime(tmp_path / name, (index, index))
    (tmp_path / 'last_checkpoint').write_text('')
    assert find_resumable(tmp_path).name == 'iter_4.pth'


def test_leftovers_of_a_kill_are_removed(images, tmp_path):
    leftover = tmp_path / '.iter_4.pth.0123.tmp'
    leftover.write_bytes(b'half')
    train(run_config(images, tmp_path, iters=2))
    assert not leftover.exists()


def test_keeping_one_checkpoint_is_refused():
    with pytest.raises(ValueError, match='max_keep_ckpts'):
        AtomicCheckpointHook(interval=1, max_keep_ckpts=1)


@pytest.mark.parametrize(
    ('length', 'name', 'done'), [('epochs', 'epoch_1', (1, 4)), ('iters', 'iter_4', (0, 4))]
)
def test_refined_file_lost_in_a_kill_is_written_on_resume(images, tmp_path, length, name, done):
    """The process can die after the checkpoint and before the blended backbone."""
    settings = {length: 1 if length == 'epochs' else 4}
    settings['custom_hooks'] = [dict(type='WeightEnsembleHook')]
    train(run_config(images, tmp_path, **settings))
    refined = tmp_path / f'refined_{name}.pth'
    whole = torch.load(refined, weights_only=True)
    assert (whole['meta']['epoch'], whole['meta']['iter']) == done
    saved = torch.load(tmp_path / f'{name}.pth', weights_only=False)['meta']
    assert (saved['epoch'], saved['iter']) == done
    refined.unlink()
    train(run_config(images, tmp_path, resume=True, **settings))
    again = torch.load(refined, weights_only=True)
    assert_same_state(whole['state_dict'], again['state_dict'])
    assert whole['meta'].pop('cfg') != again['meta'].pop('cfg')  # resume=True
    assert whole['meta'] == again['meta']


def student_of(quick_gelu: bool) -> dict[str, Any]:
    return {**STUDENT, 'model': {**TOWER, 'quick_gelu': quick_gelu}}


@pytest.mark.parametrize('name', ['epoch_1.pth', 'refined_epoch_1.pth'])
@pytest.mark.parametrize('trained', [True, False])
def test_weights_of_another_activation_are_refused(images, tmp_path, name, trained):
    """The weights of both fit both; what differs is what the network computes."""
    hooks = [dict(type='WeightEnsembleHook')]
    model = {**stage2_model(), 'student': student_of(trained)}
    train(run_config(images, tmp_path, model, epochs=1, custom_hooks=hooks))
    init = dict(type='Pretrained', checkpoint=str(tmp_path / name))
    MODELS.build(dict(**student_of(trained), init_cfg=init)).init_weights()
    other = MODELS.build(dict(**student_of(not trained), init_cfg=init))
    with pytest.raises(ValueError, match=r"take the model's name with(out)? '-quickgelu'"):
        other.init_weights()


def test_weight_ensemble_needs_student_and_teacher(images, tmp_path):
    hook = dict(type='WeightEnsembleHook')
    with pytest.raises(TypeError, match='student and teacher'):
        train(run_config(images, tmp_path, stage1_model(), epochs=1, custom_hooks=[hook]))


def test_non_finite_loss_leaves_the_last_checkpoint(images, tmp_path):
    """The run dies in iteration 3, naming parts and images, before the step and the save."""
    config = run_config(images, tmp_path, iters=4, custom_hooks=[dict(type='SpoilHook', at=3)])
    with pytest.raises(NonFiniteLossError, match=r'loss_rla = nan.*iteration 3 on images.*png'):
        train(config)
    state = torch.load(tmp_path / 'iter_2.pth', weights_only=False)['state_dict']
    assert all(torch.isfinite(value).all() for name, value in state.items())
    assert not (tmp_path / 'iter_4.pth').exists()


def _train_rank(rank: int, config_file: str, port: int) -> None:
    from mmengine.config import Config

    torch.set_num_threads(1)
    os.environ.update(
        RANK=str(rank),
        LOCAL_RANK=str(rank),
        WORLD_SIZE='2',
        MASTER_ADDR='127.0.0.1',
        MASTER_PORT=str(port),
    )
    # Before the Runner does it: mmengine would ask for a CUDA device whatever the backend.
    torch.distributed.init_process_group('gloo')
    config = Config.fromfile(config_file)
    state = train(config)
    torch.save(state, Path(config.work_dir) / f'rank_{rank}.pth')


def test_two_processes_equal_one_with_the_doubled_batch(images, tmp_path, unused_port):
    """The published code unwraps the model before the forward, so its ranks drift apart (T1)."""
    optimizer = dict(optimizer=dict(type='SGD', lr=0.5))
    # One of the eight: a process that draws it has nothing to train on in that step.
    (images / '03.png').write_bytes(b'')
    options = dict(iters=5, model=stage2_model('sc-rla'))
    single = run_config(images, tmp_path / 'single', batch_size=2, **options)
    double = run_config(
        images,
        tmp_path / 'double',
        batch_size=1,
        launcher='pytorch',
        model_wrapper_cfg=dict(
            type='MMDistributedDataParallel', device_ids=None, find_unused_parameters=True
        ),
        **options,
    )
    for config in (single, double):
        config.optim_wrapper = optimizer
        config.param_scheduler = None
    double.dump(tmp_path / 'double.py')
    torch.multiprocessing.spawn(
        _train_rank, args=(str(tmp_path / 'double.py'), unused_port), nprocs=2
    )
    ranks = [torch.load(tmp_path / 'double' / f'rank_{rank}.pth') for rank in range(2)]
    assert_same_state(*ranks)
    alone = train(single)
    assert_same_state(ranks[0], alone, atol=1e-5)
    name = 'student.visual.model.transformer.resblocks.0.mlp.c_fc.weight'
    assert (alone[name] - alone[name.replace('student', 'teacher')]).abs().max() > 1e-4


@pytest.fixture
def unused_port():
    import socket

    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return probe.getsockname()[1]
