"""Hold the plan of a step against a real one, on this machine's CPU.

The share of the machine that one image size reaches predicts the time at another; activation memory
is predicted without any measurement.
"""

from __future__ import annotations

import multiprocessing
import os
import platform
import statistics
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS

from refineclip.datasets.region_images import build_region_sampler
from refineclip.distill import cost

if TYPE_CHECKING:
    from mmengine.config import Config

STATUS = Path('/proc/self/status')


def matrix_peak(size: int = 2048, repeats: int = 3) -> float:
    """FLOP/s of a float32 matrix product on this machine, best of some."""
    a = torch.rand(size, size)
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        torch.mm(a, a)
        seconds.append(time.perf_counter() - start)
    return 2.0 * size**3 / min(seconds)


def check(config: Config, calibrate: int, predict: int, steps: int = 2) -> dict[str, Any]:
    """Time and weigh real steps at two image sizes, and print how far the plan is off.

    Each size runs in a child of its own, on one thread, in float32, with random weights and noise
    images of 640 x 480; seconds are CPU time, so that other work on the machine counts less.

    Args:
        config: Config of a stage.
        calibrate: Image size in pixels that gives the reached FLOP/s.
        predict: Image size in pixels whose step is predicted.
        steps: Timed steps, after one that is only weighed.

    Returns:
        Predicted and measured numbers.

    Raises:
        ValueError: A size is no multiple of the patch, or this is no Linux.
    """
    if not STATUS.is_file():
        raise ValueError(f'--check reads peak memory from Linux: expected {STATUS}, got no file')
    images = config.train_dataloader.batch_size
    rows = []
    for size in (calibrate, predict):
        settings = config.model.to_dict()
        settings['data_preprocessor'] = {**settings['data_preprocessor'], 'image_size': size}
        if settings['type'] == 'RefinerTraining':  # image and crop have one size there
            settings['data_preprocessor']['crop_size'] = size
        sampler = config.train_dataloader.dataset.region_sampler
        optimizer = config.optim_wrapper.optimizer.to_dict()
        measured = _in_child(settings, sampler, optimizer, images, steps)
        rows.append({**_planned(settings, optimizer, images, measured['regions']), **measured})
    first, second = rows
    second['predicted_seconds'] = second['flops'] * first['seconds'] / first['flops']
    sys.stdout.write(_describe(calibrate, predict, images, first, second))
    return dict(calibrate=calibrate, predict=predict, batch_size=images, rows=rows)


def _planned(
    settings: dict[str, Any], optimizer: dict[str, Any], images: int, counts: list[int]
) -> dict[str, float]:
    """FLOPs of a mean step and growth of memory in the first one, for the regions drawn."""
    model = cost.build_on_meta(settings)
    mean, first = float(np.mean(counts[1:])) / images, counts[0] / images
    flops = cost.step_flops(model, cost.Regions(mean, mean, 'drawn'))
    memory = cost.step_memory(model, images, cost.Regions(first, first, 'drawn'), optimizer)
    # The optimizer's state is made when the activations are gone.
    growth = memory.gradients + max(memory.activations, memory.optimizer)
    return dict(flops=images * sum(flops.values()), predicted_bytes=growth)


def _in_child(*args: Any) -> dict[str, Any]:
    """Run :func:`_measure` in a fresh process whose freed memory goes back to the system."""
    before = os.environ.get('MALLOC_MMAP_THRESHOLD_')
    os.environ['MALLOC_MMAP_THRESHOLD_'] = str(2**17)
    try:
        with multiprocessing.get_context('spawn').Pool(1) as pool:
            return pool.apply(_measure, args)
    finally:
        del os.environ['MALLOC_MMAP_THRESHOLD_']
        if before is not None:
            os.environ['MALLOC_MMAP_THRESHOLD_'] = before


def _measure(
    settings: dict[str, Any], sampler: Any, optimizer: dict[str, Any], images: int, steps: int
) -> dict[str, Any]:
    """Train for some steps; CPU seconds of the timed ones and bytes of the first."""
    import refineclip.distill  # noqa: F401  registers the stages in this process

    torch.set_num_threads(1)
    torch.manual_seed(0)
    model = MODELS.build(cost.without_weights(settings)).train()
    wrapper = build_optim_wrapper(model, dict(optimizer=optimizer))
    draw = build_region_sampler(sampler)
    generator = np.random.default_rng(0)
    height, width = cost.PICTURE_SIZE
    torch.mm(torch.rand(64, 64), torch.rand(64, 64))  # the libraries' own memory
    seconds, counts, growth = [], [], 0
    for step in range(steps + 1):
        noise = generator.integers(0, 256, (images, 3, height, width), dtype=np.uint8)
        boxes = [draw(width, height, generator, '') for _ in range(images)]
        counts.append(sum(map(len, boxes)))
        data = dict(
            inputs=list(torch.from_numpy(noise)), boxes=[torch.from_numpy(b) for b in boxes]
        )
        before = _memory_bytes('VmRSS')
        start = time.process_time()
        model.train_step(data, wrapper)
        seconds.append(time.process_time() - start)
        if step == 0:
            growth = _memory_bytes('VmHWM') - before
    return dict(seconds=statistics.mean(seconds[1:]), measured_bytes=growth, regions=counts)


def _memory_bytes(key: str) -> int:
    lines = STATUS.read_text(encoding='ascii').splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith(f'{key}:'))


def _describe(
    calibrate: int, predict: int, images: int, first: dict[str, Any], second: dict[str, Any]
) -> str:
    time_off = second['predicted_seconds'] / second['seconds'] - 1
    lines = [
        f'one step of {images} images, float32, one thread, {platform.processor() or "CPU"}',
        f'calibrated at {calibrate} px: {first["flops"] / 1e12:.3f} TFLOP in '
        f'{first["seconds"]:.2f} s, {first["flops"] / first["seconds"] / 1e9:.1f} GFLOP/s',
        f'{predict} px: {second["flops"] / 1e12:.3f} TFLOP, predicted '
        f'{second["predicted_seconds"]:.2f} s, measured {second["seconds"]:.2f} s '
        f'({time_off:+.1%})',
    ]
    for size, row in ((calibrate, first), (predict, second)):
        off = row['predicted_bytes'] / row['measured_bytes'] - 1
        lines.append(
            f'{size} px: memory above the weights, predicted {row["predicted_bytes"] / 2**20:.0f} '
            f'MiB, measured {row["measured_bytes"] / 2**20:.0f} MiB ({off:+.1%})'
        )
    return '\n'.join(lines) + '\n'
