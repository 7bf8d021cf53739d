"""Configs of the methods, made to fit a suite: its files, its seed, its budget."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from mmengine.config import Config

from refineclip.distill.region_alignment import METHODS

from .job import QUICK_STEPS, Job
from .suite import Method, find_file


def read_recipe(path: str) -> Config:
    """Read a training config, and let the modules of projects be found.

    Args:
        path: Relative to the repository.
    """
    file = find_file(path)
    root = next((one for one in file.resolve().parents if (one / 'projects').is_dir()), None)
    if root is not None and str(root) not in sys.path:  # as tools/train.py does
        sys.path.insert(0, str(root))
    return Config.fromfile(file)


def recipe(job: Job, method: Method, seed: int) -> Config:
    """The config of a run as it is trained.

    One rule for all: images, batch, regions, optimiser, schedule and the passes of the student are
    the suite's; losses, their weights, and the learning rate against CLIPSelf's are the method's.

    Args:
        job: The comparison.
        method: A method that trains.
        seed: Its seed.

    Raises:
        ValueError: If the config does not fit the suite's budget.
    """
    cfg = read_recipe(method.config)
    files = {job.suite['files'][role]: str(path) for role, path in job.source.files().items()}
    if needs_refiner(job, cfg):
        trainer = job.suite.methods[job.suite['refiner']]
        files[job.suite['files']['refiner']] = str(job.encoder_file(trainer, seed))
    cfg = Config(put_files(cfg.to_dict(), files), filename=cfg.filename)
    cfg.merge_from_dict({'randomness.seed': seed, 'default_hooks.logger.interval': 10})
    # The end alone is kept, and of it the encoder; blends are rows of their own.
    cfg.default_hooks.checkpoint.update(interval=10**9, save_last=True, save_optimizer=False)
    hooks = cfg.get('custom_hooks', [])
    cfg.custom_hooks = [hook for hook in hooks if hook['type'] != 'WeightEnsembleHook']
    _fit_length(job, method, cfg)
    return cfg


def plain_data(job: Job, cfg: Config) -> dict[str, Any]:
    """A resolved config that names OUT and DATA, and not where they are on this machine."""

    def shown(node: Any) -> Any:
        if isinstance(node, dict):
            return {key: shown(value) for key, value in node.items()}
        if isinstance(node, (list, tuple)):
            return type(node)(map(shown, node))
        if not isinstance(node, str):
            return node
        node = node.replace(str(job.out), 'OUT')
        return node if job.data is None else node.replace(str(job.data), 'DATA')

    found: dict[str, Any] = shown(cfg.to_dict())
    return found


def put_files(node: Any, files: Mapping[str, str]) -> Any:
    """Copy a config tree with strings that are placeholders replaced."""
    if isinstance(node, dict):
        return {key: put_files(value, files) for key, value in node.items()}
    if isinstance(node, (list, tuple)):
        return type(node)(put_files(value, files) for value in node)
    return files.get(node, node) if isinstance(node, str) else node


def needs_refiner(job: Job, cfg: Config) -> bool:
    """Whether a config reads what the suite's Refiner has learnt."""
    model = cfg.model
    if model.type == 'RegionAlignment' and not METHODS[model.method][2]:
        return False  # it has the key for its siblings, and does not look
    name = job.suite['files'].get('refiner')
    return name is not None and _has(cfg.to_dict(), name)


def _has(node: Any, text: str) -> bool:
    if isinstance(node, dict):
        return any(_has(value, text) for value in node.values())
    if isinstance(node, (list, tuple)):
        return any(_has(value, text) for value in node)
    return bool(node == text)


def num_steps(job: Job, method: Method, cfg: Config) -> int:
    """Steps of a run: the suite's passes over those of a step.

    Raises:
        ValueError: If the batch is not the suite's, or the steps are no whole number.
    """
    batch, wanted = cfg.train_dataloader.batch_size, job.suite['batch_size']
    if batch != wanted:
        raise ValueError(
            f'{method.name}: expected batches of {wanted} images, the same for all methods of the '
            f'suite, got {batch} in {method.config}'
        )
    if not method.budget:
        return _written_steps(job, cfg)
    steps = job.suite['passes'] * job.length / (batch * method.passes)
    if steps != int(steps) or steps < 1:
        raise ValueError(
            f'{method.name}: expected whole steps, got {steps:g} of {batch} images and '
            f'{method.passes} passes each; give another --length'
        )
    return int(steps)


def _fit_length(job: Job, method: Method, cfg: Config) -> None:
    """Give a run its steps, and end its schedule with them."""
    before, steps = _written_steps(job, cfg), num_steps(job, method, cfg)
    if job.quick:
        steps = min(QUICK_STEPS, steps)
    if cfg.train_cfg.get('max_iters'):
        cfg.train_cfg.max_iters = steps
    else:
        per_epoch = _epoch_steps(job, cfg)
        if steps % per_epoch:
            raise ValueError(
                f'{method.name}: expected whole epochs of {per_epoch} steps, got {steps} steps; '
                'give another --length'
            )
        cfg.train_cfg.max_epochs = steps // per_epoch
    schedule = []
    for one in cfg.get('param_scheduler') or []:
        begin, end = one.get('begin', 0), one.get('end')
        if end == before:
            one = {**one, 'end': steps} | ({'T_max': steps - begin} if 'T_max' in one else {})
        schedule.append(one)
    # Shorter than the warm-up: a constant rate.
    fits = all(one.get('begin', 0) < one.get('end', steps) <= steps for one in schedule)
    cfg.param_scheduler = schedule if fits else []


def _written_steps(job: Job, cfg: Config) -> int:
    """Steps that the config itself asks for."""
    loop = cfg.train_cfg
    if loop.get('max_iters'):
        return int(loop.max_iters)
    return int(loop.max_epochs * _epoch_steps(job, cfg))


def _epoch_steps(job: Job, cfg: Config) -> int:
    return max(1, job.source.num_images // cfg.train_dataloader.batch_size)
