"""What each row of the drawn world is worth in a detector and a segmentor, where asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ..demo.downstream import COLUMNS, RECIPES, missing, recipe_options
from ..demo.training import train_and_test
from ..steps import Step
from .job import Job
from .planning import train_name
from .recipes import read_recipe
from .suite import Method

TRAINED = ('F-ViT', 'CAT-Seg')
# What such a backbone is built from; others have parts that no checkpoint of a backbone fills.
BACKBONE = 'RefinerCLIP'

Values = Mapping[str, Mapping[str, Sequence[float]]]


def downstream_steps(job: Job, methods: Sequence[Method], seeds: Sequence[int]) -> list[Step]:
    """One step for every recipe, row and seed.

    Raises:
        ValueError: In a suite without such recipes.
        ModuleNotFoundError: If mmcv, mmdet or mmseg is missing.
    """
    if job.suite['kind'] != 'microworld':
        raise ValueError(
            f'--downstream: expected the suite microworld, whose recipes a CPU can train, got '
            f'{job.suite_name!r}'
        )
    if lacking := missing():
        raise ModuleNotFoundError(
            f'--downstream: expected mmcv, mmdet and mmseg, got no {", ".join(lacking)}; '
            'python -m refineclip doctor says what to do'
        )
    drawn = tuple(step.name for step in job.source.steps())
    return [
        Step(
            step_name(recipe, method, seed),
            use_backbone,
            (job, method.name, seed, recipe),
            (*drawn, *([train_name(method, seed)] if method.trains else [])),
            RECIPES[recipe][1],
        )
        for recipe in TRAINED
        for method in methods
        if is_backbone(job, method)
        for seed in seeds
    ]


def is_backbone(job: Job, method: Method) -> bool:
    """Whether a row is a backbone that configs name, and not a Refiner or a combination."""
    if not method.budget or method.blend or method.block is not None or method.shifts:
        return False
    cfg = read_recipe(method.config or job.suite['frozen'])
    return bool(cfg.model[method.part].type == BACKBONE)


def use_backbone(job: Job, name: str, seed: int, recipe: str) -> dict[str, float]:
    """Train a recipe on a row and test it; returns its metrics."""
    method, config = job.suite.methods[name], RECIPES[recipe][0]
    checkpoint = job.encoder_file(method, seed) if method.trains else None
    options = recipe_options(
        Path(job.source.files()['images']).parent, config, seed, 'shipped', checkpoint
    )
    usual = read_recipe(job.suite['frozen']).model.student.get('dense_mode', 'value')
    own = (
        read_recipe(method.config or job.suite['frozen'])
        .model[method.part]
        .get('dense_mode', 'value')
    )
    own = method.encoder.get('dense_mode', own)
    if own != usual:  # the recipe's own mode is for encoders of the usual one
        options['model.backbone.dense_mode'] = own
    if job.quick:
        options |= {'train_cfg.max_iters': 2, 'train_cfg.val_interval': 2}
    return train_and_test(
        config, options, job.out / 'runs' / f'{config}_{method.folder}_seed{seed}'
    )


def step_name(recipe: str, method: Method, seed: int) -> str:
    """Name of a step."""
    return f'{recipe} on {method.folder}, seed {seed}'


def downstream_values(
    methods: Sequence[Method], seeds: Sequence[int], done: Mapping[str, Any]
) -> dict[str, dict[str, list[float]]]:
    """Row -> column -> values of the seeds that are done."""
    rows: dict[str, dict[str, list[float]]] = {}
    for method in methods:
        for column, (recipe, key, factor) in COLUMNS.items():
            found = [done.get(step_name(recipe, method, seed)) for seed in seeds]
            values = [factor * one[key] for one in found if one is not None and key in one]
            if values:
                rows.setdefault(method.name, {})[column] = values
    return rows


def downstream_table(rows: Values) -> str:
    """The second table, empty without a row."""
    columns = [name for name, (recipe, _, _) in COLUMNS.items() if recipe in TRAINED]
    if not rows:
        return ''
    lines = [f'| as a backbone | {" | ".join(columns)} |', f'| --- |{" ---: |" * len(columns)}']
    for row, own in rows.items():
        cells = [_cell(own.get(column, ())) for column in columns]
        lines.append(f'| {" | ".join([row, *cells])} |')
    return '\n' + '\n'.join(lines) + '\n'


def _cell(values: Sequence[float]) -> str:
    if not values:
        return '-'
    spread = f' ± {np.std(values, ddof=1):.3f}' if len(values) > 1 else ''
    return f'{np.mean(values):.3f}{spread}'
