"""Train a model from a config: ``python tools/train.py CONFIG`` or ``mim train refineclip-mm``."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mmengine.config import Config

NEWEST = 'newest'

# A checkout's package and its projects (`projects.cause.cause`) are found without an installation.
sys.path.append(str(Path(__file__).resolve().parents[1]))


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line; heavy libraries are imported after it, so errors come at once."""
    from refineclip.commands.config_options import add_config_options

    parser = argparse.ArgumentParser(description='Train a model from a config.')
    parser.add_argument('config', type=Path, help='config file')
    parser.add_argument(
        '--work-dir', help='folder for logs and checkpoints (default: work_dirs/<config name>)'
    )
    parser.add_argument('--amp', action='store_true', help='use automatic mixed precision (GPU)')
    parser.add_argument(
        '--resume',
        nargs='?',
        const=NEWEST,
        metavar='CKPT',
        help='go on from this checkpoint; without a value, from the last one in the work dir',
    )
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help='scale the learning rate by real batch size / auto_scale_lr.base_batch_size',
    )
    add_config_options(parser, 'train_cfg.max_iters=10')
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='how the processes are started (default: none, one process)',
    )
    # Launchers differ in the spelling that they pass.
    parser.add_argument(
        '--local-rank', '--local_rank', type=int, default=0, help='set by launchers'
    )
    args = parser.parse_args(argv)
    if not args.config.is_file():
        parser.error(f'expected a config file, got {str(args.config)!r}, which does not exist')
    if args.resume not in (None, NEWEST) and not Path(args.resume).is_file():
        parser.error(
            f'expected a checkpoint to resume from, got {args.resume!r}, which does not exist; '
            'give --resume without a value to take the last one in the work dir'
        )
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    return args


def load_config(args: argparse.Namespace) -> Config:
    """Read the config and lay the command line over it.

    Raises:
        SystemExit: With a message, when an option asks for what the config or machine lacks.
    """
    from refineclip.commands.config_options import override, read_config_file
    from refineclip.datasets.loader_settings import settle_workers

    try:
        cfg = read_config_file(args.config, needed=())
        override(cfg, args.cfg_options)
    except ValueError as error:
        raise SystemExit(str(error)) from error
    settle_workers(cfg)
    cfg.launcher = args.launcher
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = str(Path('work_dirs') / args.config.stem)
    return cfg


def apply_training_options(cfg: Config, args: argparse.Namespace) -> None:
    """Set mixed precision, determinism, learning rate scaling and resuming.

    Raises:
        SystemExit: With a message, when an option asks for what the config or machine lacks.
    """
    from mmengine.device import get_device

    if args.amp:
        if get_device() == 'cpu':
            raise SystemExit('expected a GPU for --amp, got a CPU only; train without --amp')
        cfg.optim_wrapper.type = 'AmpOptimWrapper'
        cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')
    if cfg.get('randomness', {}).get('deterministic'):
        # Read when the first matrix product runs; PyTorch refuses the product without it.
        os.environ.setdefault('CUBLAS_WORKSPACE_CONFIG', ':4096:8')
    if args.auto_scale_lr:
        if 'base_batch_size' not in cfg.get('auto_scale_lr', {}):
            raise SystemExit(
                f'expected auto_scale_lr.base_batch_size in {args.config} for --auto-scale-lr, '
                'got none; add auto_scale_lr = dict(base_batch_size=...) to the config'
            )
        cfg.auto_scale_lr.enable = True
    if args.resume is not None:
        found = newest_checkpoint(cfg.work_dir) if args.resume == NEWEST else args.resume
        if found is None:
            print(f'--resume: no checkpoint in {cfg.work_dir} yet, starting fresh')
        else:
            cfg.resume, cfg.load_from = True, found


def newest_checkpoint(work_dir: str) -> str | None:
    """Checkpoint of the highest number; mmengine's pointer file may be empty or behind."""
    from refineclip.distill.hooks.atomic_checkpoint_hook import find_resumable

    checkpoint = find_resumable(work_dir)
    return None if checkpoint is None else str(checkpoint)


SLURM = dict(RANK='SLURM_PROCID', LOCAL_RANK='SLURM_LOCALID', WORLD_SIZE='SLURM_NTASKS')


def start_processes_without_gpu(launcher: str) -> None:
    """Join the process group here on a CPU: mmengine would ask for a CUDA device first.

    Under slurm ``MASTER_ADDR`` and ``MASTER_PORT`` have to be set, as torchrun sets them.
    """
    import torch

    if torch.cuda.is_available():
        return
    if launcher == 'slurm':
        os.environ |= {name: os.environ[given] for name, given in SLURM.items()}
    torch.distributed.init_process_group('gloo')


def main() -> None:
    """Build the runner and train."""
    args = parse_args()
    cfg = load_config(args)
    apply_training_options(cfg, args)

    from mmengine.registry import RUNNERS
    from mmengine.runner import Runner

    from refineclip.datasets.training_data import check_batches, check_length
    from refineclip.distill.hooks.resume_check_hook import ResumeCheckHook

    if args.launcher in ('pytorch', 'slurm'):
        start_processes_without_gpu(args.launcher)
    runner = RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)
    if cfg.get('resume'):
        runner.register_hook(ResumeCheckHook())
    # Schedules count iterations before any hook is called.
    if runner.train_loop is not None:
        check_batches(runner.train_loop.dataloader)
        check_length(runner.train_loop)
    runner.train()


if __name__ == '__main__':
    main()
