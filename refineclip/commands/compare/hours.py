"""A suite that is planned and not run: GPU-hours of its recipes."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from ..evaluate.common import format_table, write_json
from ..plan.command import plan
from .job import Job
from .recipes import read_recipe
from .suite import Method

COLUMNS = ('GPU-hours', 'epochs', 'px', 'TFLOP an image', 'GB a GPU')


def write_plan(args: argparse.Namespace, job: Job, methods: Sequence[Method]) -> str:
    """Plan every recipe on one GPU, write ``plan.json`` and ``plan.md``.

    Args:
        args: Command line.
        job: The comparison.
        methods: Its rows.

    Returns:
        The table, and where the files are.
    """
    suite = job.suite
    settings = argparse.Namespace(
        gpus=1, gpu=suite['gpu'], images=suite['images'], mfu=suite['mfu'], peak_tflops=None
    )
    plans = {method.name: _plan(method, settings) for method in methods if method.trains}
    rows = {name: _cells(one) for name, one in plans.items()}
    reached = f'{suite["mfu"]:.0%} of the peak of one {suite["gpu"]}'
    text = format_table(suite['title'], COLUMNS, rows)
    note = f'Planned from counted FLOPs at {reached}; nothing was trained.'
    reasons = [f'{name}: {one["reason"]}' for name, one in plans.items() if 'reason' in one]
    args.out.mkdir(parents=True, exist_ok=True)
    files = [args.out / 'plan.json', args.out / 'plan.md']
    write_json(files[0], {'suite': suite.settings, 'plans': plans, 'note': note})
    lines = [
        f'| {suite["title"]} | {" | ".join(COLUMNS)} |',
        f'| --- |{" ---: |" * len(COLUMNS)}',
        *(f'| {name} | {" | ".join(cells)} |' for name, cells in rows.items()),
    ]
    files[1].write_text('\n'.join([*lines, '', note, *reasons]) + '\n')
    written = ', '.join(map(str, files))
    return '\n'.join([text, note, *reasons, f'written: {written}', ''])


def _plan(method: Method, settings: argparse.Namespace) -> dict[str, Any]:
    """Plan one recipe on one GPU; hours of all GPUs are the same."""
    cfg = read_recipe(method.config)
    try:
        found = plan(cfg, settings)
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        return {'reason': f'not planned, {type(error).__name__}: {error}'}
    size = cfg.model.data_preprocessor.image_size
    return {**found, 'image_size': size, 'gpu_hours': found['seconds'] / 3600}


def _cells(found: dict[str, Any]) -> list[str]:
    if 'reason' in found:
        return ['-'] * len(COLUMNS)
    flops = sum(found['flops_per_image'].values())
    return [
        f'{found["gpu_hours"]:.0f}',
        f'{found["epochs"]:.0f}',
        f'{found["image_size"]}',
        f'{flops / 1e12:.2f}',
        f'{found["memory_per_gpu"]["total"] / 1e9:.0f}',
    ]
