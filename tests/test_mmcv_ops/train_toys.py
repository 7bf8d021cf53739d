"""Train toys for a few steps and write losses and weights: ``python train_toys.py FOLDER``."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner import Runner

import refineclip.mmcv_ops
from refineclip.datasets.microworld.coco_layout import write_split
from tests.test_detection import toys as detection_toys
from tests.test_mm import toy_hosts
from tests.test_segmentation.test_cat_seg import test_runs as cat_seg_runs

STEPS = 3


class Losses(Hook):
    """Keep every loss of every step."""

    def __init__(self) -> None:
        self.steps: list[dict[str, float]] = []

    def after_train_iter(self, runner: Any, batch_idx: int, data_batch: Any, outputs: Any) -> None:
        self.steps.append({name: float(value.detach()) for name, value in outputs.items()})


def train(cfg: Config) -> dict[str, Any]:
    cfg.train_cfg.update(max_iters=STEPS, val_interval=STEPS)
    torch.manual_seed(0)
    runner = Runner.from_cfg(cfg)
    losses = Losses()
    runner.register_hook(losses)
    runner.train()
    return dict(losses=losses.steps, weights=runner.model.state_dict())


def mask_rcnn() -> dict[str, Any]:
    """One step of a stock detector that cuts its mask targets with RoIAlign."""
    torch.manual_seed(0)
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = MODELS.build(toy_hosts.detector())
        toys = toy_hosts.DetectionToys()
        items = [toys[0], toys[1]]
        data = {key: [item[key] for item in items] for key in items[0]}
        losses = model(**model.data_preprocessor(data, training=True), mode='loss')
        total, scalars = model.parse_losses(losses)
        total.backward()
    gradients = {name: one.grad for name, one in model.named_parameters() if one.grad is not None}
    return dict(
        losses=[{name: float(value.detach()) for name, value in scalars.items()}], weights=gradients
    )


def main(folder: Path) -> None:
    root = Path(__file__).resolve().parents[2]
    for split, number in (('train', 8), ('val', 2)):
        write_split(folder / 'microworld', split, number)
    stem = 'cat-seg_microworld-clip_1xb8-300i_microworld-base'
    (folder / 'cat-seg').mkdir()
    cat_seg = cat_seg_runs.small(root, folder / 'microworld', folder / 'cat-seg', stem, STEPS)
    results = {
        'F-ViT': train(detection_toys.run_config(folder / 'data', folder / 'fvit')),
        'CAT-Seg': train(cat_seg),
        'Mask R-CNN': mask_rcnn(),
    }
    torch.save(dict(stands_in=refineclip.mmcv_ops.stands_in(), **results), folder / 'results.pt')


if __name__ == '__main__':
    main(Path(sys.argv[1]))
