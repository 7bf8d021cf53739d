"""Several processes through tools/train.py: torchrun with DDP, and what slurm passes on."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from mmengine.registry import MODELS

from tests.test_tools.test_train_cli import load_tool

from .toy_runs import assert_same_state, run_config, stage2_model, train, write_images
from .toys import STUDENT

RECIPE = 'configs/distill/r-sc-clipself/r-sc-clipself_eva02-vit-b16_8xb2-amp-6e_coco-1024.py'
DDP = dict(
    model_wrapper_cfg=dict(
        type='MMDistributedDataParallel', device_ids=None, find_unused_parameters=True
    )
)


@pytest.mark.slow
def test_torchrun_with_two_processes_equals_one(tmp_path, repo_root):
    """Two processes of one image each against one process of two, and files that load."""
    images = write_images(tmp_path / 'images')
    options = dict(iters=2, model=stage2_model('sc-rla'))
    hooks = [dict(type='WeightEnsembleHook', alpha=1.0)]
    double = run_config(
        images, tmp_path / 'double', batch_size=1, custom_hooks=hooks, **DDP, **options
    )
    single = run_config(images, tmp_path / 'single', batch_size=2, **options)
    for config in (single, double):
        config.optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.5))
        config.param_scheduler = None
    double.dump(tmp_path / 'double.py')
    launch = [sys.executable, '-m', 'torch.distributed.run', '--standalone', '--nproc-per-node=2']
    command = [str(repo_root / 'tools/train.py'), str(tmp_path / 'double.py')]
    subprocess.run(
        [*launch, *command, '--launcher', 'pytorch'],
        env={**os.environ, 'PYTHONPATH': str(repo_root), 'OMP_NUM_THREADS': '1'},
        cwd=tmp_path,
        check=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    saved = torch.load(tmp_path / 'double' / 'iter_2.pth', weights_only=False)
    alone = train(single)
    assert_same_state(dict(saved['state_dict']), alone, atol=1e-5)
    assert saved['optimizer']
    name = 'visual.model.transformer.resblocks.0.mlp.c_fc.weight'
    assert (alone[f'student.{name}'] - alone[f'teacher.{name}']).abs().max() > 1e-4

    refined = tmp_path / 'double' / 'refined_iter_2.pth'
    backbone = MODELS.build({**STUDENT, 'pretrained': str(refined)})
    assert torch.equal(backbone.state_dict()[name], saved['state_dict'][f'student.{name}'])


def test_slurm_reaches_the_runner(monkeypatch, repo_root):
    """What ``mim train --launcher slurm`` and srun pass on; the process group is mmengine's."""
    monkeypatch.setenv('LOCAL_RANK', '0')
    train_tool = load_tool(repo_root, 'train')
    args = train_tool.parse_args([str(repo_root / RECIPE), '--launcher', 'slurm'])
    config = train_tool.load_config(args)
    assert config.launcher == 'slurm'
    assert config.env_cfg.dist_cfg == dict(backend='nccl', timeout=7200)
