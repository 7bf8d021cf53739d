"""Command lines of the launchers; what happens before anything heavy is imported."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest
from mmengine.config import Config


def load_tool(repo_root: Path, name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        f'launcher_{name}', repo_root / f'tools/{name}.py'
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def train(repo_root: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.setenv('LOCAL_RANK', '0')  # parse_args sets it; this restores it afterwards
    return load_tool(repo_root, 'train')


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / 'some-recipe.py'
    path.write_text("optim_wrapper = dict(type='OptimWrapper', optimizer=dict(lr=0.1))\nseed = 0\n")
    return path


@pytest.mark.parametrize('name', ['train', 'test'])
def test_help_needs_no_heavy_library_and_has_no_gpus(repo_root: Path, name: str) -> None:
    # -S hides site-packages: help must work with the standard library alone. mim reads this text
    # and appends an option we do not have when it finds `--gpus`.
    command = [sys.executable, '-S', str(repo_root / 'tools' / f'{name}.py'), '-h']
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert '--gpus' not in text
    for option in ('--work-dir', '--cfg-options', '--launcher', '--local-rank', '--local_rank'):
        assert option in text


def test_missing_files_are_early_errors(train: ModuleType, config: Path, capsys) -> None:
    for line in (['nowhere.py'], [str(config), '--resume', 'nowhere.pth']):
        with pytest.raises(SystemExit) as caught:
            train.parse_args(line)
        assert caught.value.code == 2
        assert 'nowhere' in capsys.readouterr().err


def test_test_needs_a_checkpoint(repo_root: Path, config: Path, capsys) -> None:
    with pytest.raises(SystemExit):
        load_tool(repo_root, 'test').parse_args([str(config), 'nowhere.pth'])
    assert "expected a checkpoint file, got 'nowhere.pth'" in capsys.readouterr().err


@pytest.mark.parametrize('spelling', ['--local_rank=3', '--local-rank=3'])
def test_both_spellings_of_local_rank(train, config, monkeypatch, spelling: str) -> None:
    monkeypatch.delenv('LOCAL_RANK')
    train.parse_args([str(config), spelling])
    assert os.environ['LOCAL_RANK'] == '3'


def test_config_and_command_line_meet(train: ModuleType, config: Path) -> None:
    line = [str(config), '--cfg-options', 'seed=7', 'optim_wrapper.optimizer.lr=-1', 'a.b=[1,2]']
    cfg = train.load_config(train.parse_args(line))
    assert (cfg.seed, cfg.optim_wrapper.optimizer.lr, cfg.a.b) == (7, -1, [1, 2])
    assert cfg.work_dir == str(Path('work_dirs/some-recipe'))
    assert cfg.launcher == 'none'


def test_option_without_value_is_refused(train, config, capsys) -> None:
    with pytest.raises(SystemExit):
        train.parse_args([str(config), '--cfg-options', 'seed'])
    assert "--cfg-options: expected KEY=VALUE, got 'seed'" in capsys.readouterr().err


def test_training_options(train: ModuleType, config: Path, tmp_path: Path) -> None:
    checkpoint = tmp_path / 'iter_1.pth'
    checkpoint.touch()
    cfg = Config(dict(work_dir=str(tmp_path), auto_scale_lr=dict(base_batch_size=4)))
    args = train.parse_args([str(config), '--auto-scale-lr', '--resume', str(checkpoint)])
    train.apply_training_options(cfg, args)
    assert cfg.auto_scale_lr.enable
    assert (cfg.resume, cfg.load_from) == (True, str(checkpoint))


def test_resume_without_a_value_takes_the_newest(train, config, tmp_path) -> None:
    cfg = Config(dict(work_dir=str(tmp_path / 'runs'), load_from='start.pth', resume=False))
    args = train.parse_args([str(config), '--resume'])
    train.apply_training_options(cfg, args)
    assert (cfg.resume, cfg.load_from) == (False, 'start.pth')  # nothing there yet: starts anew
    for step in (2, 10):
        path = tmp_path / 'runs' / f'iter_{step}.pth'
        path.parent.mkdir(exist_ok=True)
        path.touch()
        os.utime(path, ns=(step, step))
    train.apply_training_options(cfg, args)
    assert (cfg.resume, cfg.load_from) == (True, str(tmp_path / 'runs' / 'iter_10.pth'))


def test_determinism_reaches_cublas(train, config, monkeypatch) -> None:
    monkeypatch.delenv('CUBLAS_WORKSPACE_CONFIG', raising=False)
    args = train.parse_args([str(config)])
    train.apply_training_options(Config(), args)
    assert 'CUBLAS_WORKSPACE_CONFIG' not in os.environ
    train.apply_training_options(Config(dict(randomness=dict(deterministic=True))), args)
    assert os.environ['CUBLAS_WORKSPACE_CONFIG'] == ':4096:8'


def test_auto_scale_lr_needs_a_base(train: ModuleType, config: Path) -> None:
    args = train.parse_args([str(config), '--auto-scale-lr'])
    with pytest.raises(SystemExit, match='base_batch_size'):
        train.apply_training_options(Config({}), args)


def test_amp_needs_a_gpu(train, config, monkeypatch) -> None:
    args = train.parse_args([str(config), '--amp'])
    monkeypatch.setattr('mmengine.device.get_device', lambda: 'cpu')
    with pytest.raises(SystemExit, match='expected a GPU for --amp'):
        train.apply_training_options(Config(dict(optim_wrapper={})), args)
    monkeypatch.setattr('mmengine.device.get_device', lambda: 'cuda')
    cfg = Config(dict(optim_wrapper=dict(type='OptimWrapper')))
    train.apply_training_options(cfg, args)
    assert cfg.optim_wrapper == dict(type='AmpOptimWrapper', loss_scale='dynamic')


def test_values_arrive_as_typed_and_loaders_without_workers_are_settled(train, tmp_path) -> None:
    config = tmp_path / 'photos.py'
    config.write_text(
        "prompt = 'a photo of a {}'\n"
        "train_dataloader = dict(num_workers=2, persistent_workers=True, dataset=dict(root='p'))\n"
    )
    options = ['prompt=a picture of a {}', 'train_dataloader.dataset.root=My Photos, 2024']
    options.append('train_dataloader.num_workers=0')
    cfg = train.load_config(train.parse_args([str(config), '--cfg-options', *options]))
    assert cfg.prompt == 'a picture of a {}'
    assert cfg.train_dataloader.to_dict() == dict(
        num_workers=0, dataset=dict(root='My Photos, 2024')
    )


def test_options_that_do_not_fit_stop_with_a_sentence(train, config) -> None:
    args = train.parse_args([str(config), '--cfg-options', 'seed.a=[1'])
    with pytest.raises(SystemExit, match='--cfg-options: '):
        train.load_config(args)
