"""Whole toy training runs through mmengine's Runner, from a config alone."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from PIL import Image

from .toys import PREPROCESSOR, STUDENT


def write_images(folder: Path, num_images: int = 8) -> Path:
    """Smooth random pictures of various sizes."""
    folder.mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(0)
    for index in range(num_images):
        small = generator.integers(0, 256, (4, 5, 3), dtype=np.uint8)
        size = (40 + 4 * (index % 3), 36 + 4 * (index % 2))
        Image.fromarray(small).resize(size, Image.Resampling.BICUBIC).save(
            folder / f'{index:02d}.png'
        )
    return folder


def stage2_model(method: str = 'sc-rla', **kwargs: Any) -> dict[str, Any]:
    """A RegionAlignment config around the toy tower."""
    return dict(
        type='RegionAlignment',
        student=STUDENT,
        method=method,
        rla=dict(type='CLIPSelfLoss'),
        scd=dict(type='SCDLoss', roi_size=2),
        refiner=dict(num_blocks=2),
        data_preprocessor=PREPROCESSOR,
        **kwargs,
    )


def run_config(
    images: Path,
    work_dir: Path,
    model: dict[str, Any] | None = None,
    batch_size: int = 2,
    epochs: int = 2,
    iters: int | None = None,
    **extra: Any,
) -> Config:
    """A complete training config; ``iters`` chooses an iteration-based loop."""
    by_epoch = iters is None
    loop = (
        dict(type='EpochBasedTrainLoop', max_epochs=epochs)
        if by_epoch
        else dict(type='IterBasedTrainLoop', max_iters=iters)
    )
    return Config(
        dict(
            default_scope='mmengine',
            custom_imports=dict(
                imports=['refineclip.encoders', 'refineclip.datasets', 'refineclip.distill'],
                allow_failed_imports=False,
            ),
            work_dir=str(work_dir),
            model=model or stage2_model(),
            train_dataloader=dict(
                batch_size=batch_size,
                num_workers=0,
                sampler=dict(
                    type='EpochSampler' if by_epoch else 'InfiniteEpochSampler', shuffle=True
                ),
                collate_fn=dict(type='collate_regions'),
                dataset=dict(
                    type='RegionImageFolder',
                    data_root=str(images),
                    region_sampler=dict(
                        type='RandomCropRegions', groups=[dict(num=3, area=(0.2, 0.5))]
                    ),
                ),
            ),
            train_cfg=loop,
            optim_wrapper=dict(optimizer=dict(type='AdamW', lr=1e-2, weight_decay=0.1)),
            param_scheduler=[dict(type='CosineAnnealingLR', T_max=100, by_epoch=False)],
            default_hooks=dict(
                checkpoint=dict(
                    type='AtomicCheckpointHook', interval=1 if by_epoch else 2, by_epoch=by_epoch
                ),
                logger=dict(type='LoggerHook', interval=1),
            ),
            randomness=dict(seed=3),
            log_level='WARNING',
            **extra,
        )
    )


class Interrupted(Exception):
    """Raised by InterruptHook."""


@HOOKS.register_module()
class InterruptHook(Hook):
    """Stop the run before iteration ``at``."""

    def __init__(self, at: int) -> None:
        self.at = at

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Raise at the iteration."""
        if runner.iter == self.at:
            raise Interrupted


@HOOKS.register_module()
class SpoilHook(Hook):
    """Write NaN into a trained weight before iteration ``at``."""

    def __init__(self, at: int) -> None:
        self.at = at

    def before_train_iter(self, runner: Runner, batch_idx: int, data_batch: Any = None) -> None:
        """Spoil at the iteration."""
        if runner.iter == self.at:
            next(p for p in runner.model.parameters() if p.requires_grad).data.fill_(float('nan'))


def train_interrupted(config: Config, at: int) -> None:
    """Train until iteration ``at`` and die there."""
    config.custom_hooks = [dict(type='InterruptHook', at=at)]
    try:
        train(config)
    except Interrupted:
        return
    raise AssertionError(f'the run ended before iteration {at}')


def train(config: Config) -> dict[str, torch.Tensor]:
    """Train and return the final state of the unwrapped model."""
    # Loggers and message hubs are global, found by this name.
    config.experiment_name = uuid.uuid4().hex
    runner = Runner.from_cfg(config)
    runner.train()
    model = getattr(runner.model, 'module', runner.model)
    return {name: value.clone() for name, value in model.state_dict().items()}


def assert_same_state(
    first: dict[str, torch.Tensor], second: dict[str, torch.Tensor], atol: float = 0.0
) -> None:
    """Every tensor equal, exactly by default."""
    assert first.keys() == second.keys()
    for name, value in first.items():
        torch.testing.assert_close(value, second[name], atol=atol, rtol=0, msg=name)
