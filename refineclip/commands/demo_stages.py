"""The two training stages of ``python -m refineclip demo``: their configs, and running them."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner

import refineclip.datasets
import refineclip.distill
import refineclip.encoders  # noqa: F401  (these three register what the configs name)

BATCH_SIZE = 4
REFINER = dict(num_blocks=3)
REFINE_LOSS = dict(type='RefineLoss', roi_size=4)
REGIONS = dict(type='RandomCropRegions', groups=[dict(num=3, area=(0.2, 0.5))])
LEARNING_RATE = 1e-4


class ProgressHook(Hook):
    """Write a line with the losses about ten times per stage."""

    priority = 'LOWEST'

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Report iteration and losses."""
        done = runner.iter + 1
        if done % max(1, runner.max_iters // 10) and done != runner.max_iters:
            return
        parts = [f'{name} {value.item():.3f}' for name, value in outputs.items() if name != 'loss']
        sys.stdout.write(f'  iteration {done}/{runner.max_iters}  {", ".join(parts)}\n')
        sys.stdout.flush()


def preprocessor(mean: tuple[float, ...], std: tuple[float, ...], size: int) -> dict[str, Any]:
    """Config of the preprocessor, from mean and std in [0, 1] and the image side in pixels."""
    return dict(
        type='RegionPreprocessor',
        mean=[255 * value for value in mean],
        std=[255 * value for value in std],
        image_size=size,
        crop_size=size,
        crop_resize='squash',
    )


def image_folder(root: str, ann_file: str, **kwargs: Any) -> dict[str, Any]:
    """Config of the dataset of the images that ``ann_file`` lists."""
    return dict(
        type='RegionImageFolder',
        data_root=root,
        ann_file=ann_file,
        region_sampler=REGIONS,
        **kwargs,
    )


def refiner_stage(encoder: Mapping[str, Any], pixels: dict[str, Any]) -> dict[str, Any]:
    """Config of stage 1's model: the Refiner learns from close-ups, the encoder stays frozen."""
    return dict(
        type='RefinerTraining',
        encoder=dict(encoder, refiner=REFINER),
        loss=REFINE_LOSS,
        data_preprocessor=pixels,
    )


def alignment_stage(
    encoder: Mapping[str, Any], refiner_checkpoint: str, pixels: dict[str, Any]
) -> dict[str, Any]:
    """Config of stage 2's model, vision only: the student learns the Refiner's correlations."""
    return dict(
        type='RegionAlignment',
        method='r-sc-v',
        student=dict(encoder),
        refiner=dict(REFINER, checkpoint=refiner_checkpoint),
        # 'kl' is 'ce' minus a constant, so that the progress lines fall towards 0.
        scd=dict(type='SCDLoss', divergence='kl', roi_size=8),
        data_preprocessor=pixels,
    )


def train(
    stage: str,
    model: dict[str, Any],
    dataset: dict[str, Any],
    work_dir: Path,
    iters: int,
    seed: int,
) -> Path:
    """Train one stage with mmengine's runner.

    Args:
        stage: ``'refiner'`` or ``'alignment'``.
        model: Config of the model.
        dataset: Config of the dataset.
        work_dir: Folder of logs and checkpoints.
        iters: Training iterations.
        seed: Seed of everything random.

    Returns:
        The last checkpoint, ``work_dir/iter_<iters>.pth``.
    """
    hooks: list[dict[str, Any]] = [dict(type='BadImageHook', max_bad_fraction=0.5)]
    if stage == 'alignment':
        hooks.append(dict(type='WeightEnsembleHook'))
    warm_up = max(1, iters // 10)
    cfg = dict(
        model=model,
        work_dir=str(work_dir),
        experiment_name=f'demo_{stage}',
        train_dataloader=dict(
            batch_size=BATCH_SIZE,
            num_workers=0,
            sampler=dict(type='InfiniteEpochSampler', shuffle=True),
            collate_fn=dict(type='collate_regions'),
            dataset=dataset,
        ),
        train_cfg=dict(by_epoch=False, max_iters=iters),
        optim_wrapper=dict(
            optimizer=dict(type='AdamW', lr=LEARNING_RATE, weight_decay=0.05),
            clip_grad=dict(max_norm=1.0),
        ),
        param_scheduler=[
            dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=warm_up),
            dict(type='CosineAnnealingLR', by_epoch=False, begin=warm_up, end=iters + 1),
        ],
        default_hooks=dict(
            checkpoint=dict(type='AtomicCheckpointHook', by_epoch=False, interval=iters),
            logger=dict(type='LoggerHook', interval=1, log_metric_by_epoch=False),
        ),
        custom_hooks=hooks,
        randomness=dict(seed=seed),
        # The progress lines say what a first run needs; every scalar is in vis_data/scalars.json.
        log_level='WARNING',
    )
    runner = Runner.from_cfg(Config(cfg))
    # mmengine warns of its own calls to its own old functions.
    runner.logger.addFilter(lambda record: 'deprecated' not in record.getMessage())
    runner.register_hook(ProgressHook())
    runner.train()
    return work_dir / f'iter_{iters}.pth'
