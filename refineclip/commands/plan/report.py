"""A plan as text."""

from __future__ import annotations

from typing import Any

from .devices import DEVICES


def describe(result: dict[str, Any]) -> str:
    """The plan as text."""
    flops = result['flops_per_image']
    total = sum(flops.values())
    lines = [
        f'{result["config"]} ({result["model"]}): {result["gpus"]} x {result["gpu"]}, '
        f'{result["batch_size"]} images each, {result["dtype"]}',
        describe_images(result),
        '',
        'FLOPs per image (matrix products, convolutions and attention)',
        *(
            f'  {name:24s}{value / 1e12:10.4f} T {value / total:6.1%}'
            for name, value in flops.items()
        ),
        f'  {"sum":24s}{total / 1e12:10.4f} T',
        '',
        *describe_memory(result),
        '',
        *describe_time(result),
    ]
    return '\n'.join(lines) + '\n'


def describe_images(result: dict[str, Any]) -> str:
    """What one image brings, as a line."""
    if 'regions' in result:
        regions = result['regions']
        return f'regions per image     {regions["mean"]:.2f} ({regions["source"]})'
    height, width = result['image_size']
    return f'image size            {height} x {width}, one image with random weights was counted'


def describe_memory(result: dict[str, Any]) -> list[str]:
    """Parameters and memory, as lines; the memory of a detector or segmentor is not planned."""
    parameters = result['parameters']
    lines = [
        f'parameters            {parameters["trainable"] / 1e6:.1f} M trainable, '
        f'{parameters["frozen"] / 1e6:.1f} M frozen'
    ]
    if 'memory_per_gpu' not in result:
        return lines
    memory = result['memory_per_gpu']
    lines[0] += ' (teacher, Refiner, embeddings)'
    lines.append('memory per GPU')
    rows = {
        'weights': 'weights',
        'gradients': 'gradients',
        'buckets': 'gradient buckets of DDP',
        'optimizer': 'optimizer state',
        'activations': 'activations',
        'activations_with_cp': 'activations with_cp=True',
        'total': 'sum',
        'total_with_cp': 'sum with_cp=True',
    }
    for key, name in rows.items():
        chosen = ' <- config' if key == ('total_with_cp' if result['with_cp'] else 'total') else ''
        lines.append(f'  {name:26s}{memory[key] / 2**30:8.2f} GiB{chosen}')
    return [*lines, *fits(result)]


def fits(result: dict[str, Any]) -> list[str]:
    """Whether the card holds it."""
    if result['gpu'] not in DEVICES:
        return []
    memory = result['memory_per_gpu']
    need = memory['total_with_cp' if result['with_cp'] else 'total']
    have = DEVICES[result['gpu']].memory_gb * 1e9
    # A tenth for the CUDA context, workspaces and fragmentation.
    verdict = 'fits' if need < 0.9 * have else 'DOES NOT FIT: lower the batch, or set with_cp=True'
    return [f'  of {have / 2**30:.0f} GiB: {verdict}']


def describe_time(result: dict[str, Any]) -> list[str]:
    """Rate and time, as lines."""
    lines = [
        f'at {result["mfu"]:.0%} of {result["peak_tflops"]:.4g} TFLOP/s, steps alone:',
        f'  {result["images_per_second"]:.4g} images/s, {result["seconds_per_step"]:.3g} s a step',
    ]
    if result['images']:
        lines.append(
            f'  an epoch of {result["images"]:,} images ({result["images_source"]}): '
            f'{duration(result["seconds_per_epoch"])}'
        )
    epochs = '' if result['epochs'] is None else f' ({result["epochs"]:.2f} epochs)'
    lines.append(
        f'  the whole schedule, {result["steps"]:,} steps{epochs}: {duration(result["seconds"])}, '
        f'{result["gpus"] * result["seconds"] / 3600:.3g} GPU-hours'
    )
    return lines


def duration(seconds: float) -> str:
    """Seconds in the unit that one reads."""
    if seconds < 120:
        return f'{seconds:.3g} s'
    if seconds < 7200:
        return f'{seconds / 60:.3g} min'
    return f'{seconds / 3600:.3g} h'
