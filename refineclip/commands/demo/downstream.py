"""The long demo's last part: what each backbone is worth in a detector and two segmentors."""

from __future__ import annotations

import argparse
import importlib.util
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ..steps import Step
from .claims import FROZEN, R_SC_RLA, RLA, SC_RLA
from .runs import RUNS, run_checkpoint
from .training import train_and_test

NEEDS = ('mmcv', 'mmdet', 'mmseg')
ROWS = (FROZEN, RLA, SC_RLA, R_SC_RLA)
# Recipe -> name of its config; seconds on one core, for the time to go only; rows.
RECIPES = {
    'F-ViT': ('fvit', 200.0, (FROZEN, RLA, R_SC_RLA)),
    'CAT-Seg': ('cat-seg', 300.0, ROWS),
    'words alone': ('text-segmentor', 15.0, ROWS),
}
TEXT_SIDES = {
    'fvit': 'roi_head.bbox_head.classifier.text',
    'cat-seg': 'text_encoder',
    'text-segmentor': 'text',
}
# Column -> recipe, key of its test, and what turns it into a share.
COLUMNS = {
    'F-ViT novel AP50': ('F-ViT', 'coco/novel_ap50', 1.0),
    'F-ViT base AP50': ('F-ViT', 'coco/base_ap50', 1.0),
    'CAT-Seg novel mIoU': ('CAT-Seg', 'mIoU_novel', 0.01),
    'CAT-Seg mIoU': ('CAT-Seg', 'mIoU', 0.01),
    'words alone novel mIoU': ('words alone', 'mIoU_novel', 0.01),
    'words alone mIoU': ('words alone', 'mIoU', 0.01),
}
LEGEND = (
    'The same backbone by name in mmdet and mmseg. F-ViT: tower frozen, boxes of 12 base kinds '
    'trained, AP50 over 4 novel and over the base kinds. CAT-Seg: trained without labels of the '
    'novel kinds, mIoU over these 4, and over all 16 kinds and 6 backgrounds. Words alone: nothing '
    'is trained, each token takes the class name that is most similar. Means over the seeds of all '
    'stages.'
)

Scores = Mapping[str, Sequence[Mapping[str, float]]]


def missing() -> list[str]:
    """Modules that this part needs and that are not installed."""
    return [name for name in NEEDS if importlib.util.find_spec(name) is None]


def downstream_steps(args: argparse.Namespace) -> list[Step]:
    """One step for every recipe, row and seed; what no seed changes has one."""
    steps = []
    for recipe, (config, seconds, rows) in RECIPES.items():
        for row in rows:
            for seed in _seeds(args, recipe, row):
                needs = () if row == FROZEN else (f'train {row}, seed {seed}',)
                folder = f'{config}_{RUNS.get(row, "frozen")}_seed{seed}'
                options = _options(args, config, row, seed)
                arguments = (config, options, Path(args.out, 'runs', folder))
                name = step_name(recipe, row, seed)
                needs = ('draw train', 'draw val', *needs)
                steps.append(Step(name, train_and_test, arguments, needs, seconds))
    return steps


def downstream_scores(args: argparse.Namespace, found: Mapping[str, Any]) -> dict[str, Any]:
    """Row -> column -> values of all seeds, out of what the steps returned."""
    return {
        row: {
            column: [
                factor * float(found[step_name(recipe, row, seed)][key])
                for seed in _seeds(args, recipe, row)
            ]
            for column, (recipe, key, factor) in COLUMNS.items()
            if row in RECIPES[recipe][2]
        }
        for row in ROWS
    }


def step_name(recipe: str, row: str, seed: int) -> str:
    """Name of a step."""
    return f'{recipe} on {row}, seed {seed}'


def _seeds(args: argparse.Namespace, recipe: str, row: str) -> Sequence[int]:
    return args.seeds[:1] if (recipe, row) == ('words alone', FROZEN) else args.seeds


def _options(args: argparse.Namespace, config: str, row: str, seed: int) -> dict[str, Any]:
    """What a run lays over its config."""
    checkpoint = None if row == FROZEN else run_checkpoint(args, RUNS[row], seed)
    return recipe_options(args.out / 'data', config, seed, args.pretrained, checkpoint)


def recipe_options(
    root: Path, config: str, seed: int, pretrained: str = 'shipped', checkpoint: Path | None = None
) -> dict[str, Any]:
    """What lays a backbone and a seed over a recipe of the drawn world, as dotted keys.

    Args:
        root: Folder of the data set.
        config: Name of the recipe's config.
        seed: Of its training.
        pretrained: Weights of the tiny CLIP, and of the text side.
        checkpoint: Of a refined backbone.
    """
    options: dict[str, Any] = {
        'randomness.seed': seed,
        'model.backbone.pretrained': pretrained,
        f'model.{TEXT_SIDES[config]}.pretrained': pretrained,
        'test_dataloader.dataset.data_root': str(root),
    }
    if config != 'text-segmentor':
        options['train_dataloader.dataset.data_root'] = str(root)
        options['default_hooks.checkpoint.save_optimizer'] = False
    if config == 'fvit':
        options['test_evaluator.ann_file'] = f'{root}/annotations/instances_val.json'
    if checkpoint is not None:
        options['model.backbone.init_cfg'] = dict(type='Pretrained', checkpoint=str(checkpoint))
    return options
