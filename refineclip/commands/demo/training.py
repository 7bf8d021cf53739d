"""The runs of the demo: configs of ``configs/microworld`` through mmengine's Runner."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config

import refineclip
import refineclip.visualization  # registers FeatureStripHook

from ..running import place, running

REFINER_CONFIG = 'refiner'


def config_file(method: str) -> Path:
    """Config of a stage on the microworld, in the checkout or in the installed package.

    Args:
        method: ``'refiner'``, ``'rla'``, ``'sc-rla'``, ``'r-sc-rla'``, ``'r-sc-v'``, ``'fvit'``,
            ``'cat-seg'`` or ``'text-segmentor'``.

    Raises:
        FileNotFoundError: If there are no configs, or none of this name.
    """
    package = Path(refineclip.__file__).parent
    roots = package / '.mim', package.parent
    files = [root / 'configs' / 'microworld' / f'{method}_microworld.py' for root in roots]
    for file in files:
        if file.is_file():
            return file
    raise FileNotFoundError(
        f'expected {files[-1]} in a checkout or {files[0]} in an installed package, got neither; '
        'install refineclip-mm from a wheel or run in a checkout'
    )


def load_config(method: str, options: Mapping[str, Any]) -> Config:
    """Read a config and lay options over it.

    Args:
        method: See :func:`config_file`.
        options: Dotted keys, as after ``--cfg-options``.
    """
    cfg = Config.fromfile(config_file(method))
    cfg.merge_from_dict(dict(options))
    return cfg


def train(
    method: str,
    options: Mapping[str, Any],
    folder: Path,
    hooks: Sequence[Mapping[str, Any]] = (),
) -> None:
    """Train one stage; its log goes to ``folder/train.log``.

    Args:
        method: See :func:`config_file`.
        options: See :func:`load_config`.
        folder: The run's work_dir.
        hooks: Configs of further hooks.
    """
    cfg = _prepare(method, options, folder)
    cfg.custom_hooks = [*cfg.custom_hooks, *hooks]
    with running(cfg, folder) as runner:
        runner.train()


def train_and_test(method: str, options: Mapping[str, Any], folder: Path) -> dict[str, float]:
    """Train a detector or segmentor, if its config has anything to train, and test it.

    Args:
        method: ``'fvit'``, ``'cat-seg'`` or ``'text-segmentor'``.
        options: See :func:`load_config`.
        folder: The run's work_dir; its log goes to ``train.log`` there.

    Returns:
        The metrics of the test.
    """
    cfg = _prepare(method, options, folder)
    # Tested once, at the end; a validation before that would be the same.
    cfg.val_dataloader = cfg.val_evaluator = cfg.val_cfg = None
    with running(cfg, folder) as runner:
        if cfg.get('train_cfg') is not None:
            runner.train()
        return {name: float(value) for name, value in runner.test().items()}


def _prepare(method: str, options: Mapping[str, Any], folder: Path) -> Config:
    return place(load_config(method, options), folder)


def checkpoint(method: str, folder: Path, options: Mapping[str, Any]) -> Path:
    """Path of what a run saves at its end: the refined backbone, or stage 1's checkpoint."""
    name = f'iter_{load_config(method, options).train_cfg.max_iters}.pth'
    return folder / (name if method == REFINER_CONFIG else f'refined_{name}')
