"""The training runs of the demo: which there are, where they lie, what they change in configs."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from .claims import R_SC_RLA, REFINER, RLA, SC_RLA
from .training import checkpoint

# Row -> config of its run; the Refiner first, others wait for it.
RUNS = {
    REFINER: 'refiner',
    RLA: 'rla',
    'RLA, 6 x 6 grid': 'rla-grid6',
    SC_RLA: 'sc-rla',
    R_SC_RLA: 'r-sc-rla',
    'R-SC-V': 'r-sc-v',
    'R-SC-RLA, retention': 'r-sc-rla-retention',
}
REFINED = ('r-sc-rla', 'r-sc-v', 'r-sc-rla-retention')
# Rows that no claim needs; --quick leaves them out.
EXTRA = ('RLA, 6 x 6 grid', 'R-SC-V')
# Rows of the long form alone, so that the short one stays within ten minutes.
LONG_ONLY = ('R-SC-RLA, retention',)
# Shares of the student in blends of RLA with the original, the rival that costs nothing.
BLENDS = (0.3, 0.5, 0.7)


def blend_name(alpha: float) -> str:
    """Row of a blend."""
    return f'{RLA}, alpha {alpha}'


def run_folder(args: argparse.Namespace, method: str, seed: int) -> Path:
    """work_dir of one training run."""
    return Path(args.out, 'runs', f'{method}_seed{seed}')


def run_options(args: argparse.Namespace, method: str, seed: int) -> dict[str, Any]:
    """What a run lays over its config, as after ``--cfg-options``."""
    part = 'encoder' if method == 'refiner' else 'student'
    options: dict[str, Any] = {
        'randomness.seed': seed,
        'train_dataloader.dataset.data_root': str(args.out / 'data' / 'train'),
        f'model.{part}.pretrained': args.pretrained,
        'default_hooks.logger.interval': 10,
    }
    if args.quick:
        options |= {
            'train_cfg.max_iters': 2,
            'param_scheduler': [],
            'default_hooks.checkpoint.interval': 2,
        }
    if method in REFINED:
        options['model.refiner.checkpoint'] = str(run_checkpoint(args, 'refiner', seed))
    return options


def run_checkpoint(args: argparse.Namespace, method: str, seed: int) -> Path:
    """What a run saves at its end: the refined backbone, or stage 1's checkpoint."""
    return checkpoint(method, run_folder(args, method, seed), run_options(args, method, seed))
