"""Training steps of a config at its real size: images per second, peak memory, MFU, loader cores.

    python -m benchmarks gpu                             the three cases, batch 16, bfloat16
    python -m benchmarks gpu b16-560 --compile           blocks compiled one by one
    python -m benchmarks gpu --device cpu --quick        the same code at toy size
    python -m benchmarks gpu CONFIG --device cpu --dtype float32 --batch-size 2 --steps 1 --warmup 0

Models have random weights; images are made up, 640 x 480, with regions of the config's own sampler,
and go through the config's own preprocessor and optimizer. MFU counts matrix products and attention
(2 FLOPs per multiplication), the backward pass too, recomputation not, against --peak-tflops.
"""

from __future__ import annotations

import argparse
import resource
import shlex
import statistics
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS

from refineclip.datasets.region_images import build_region_sampler
from refineclip.distill.cost import Regions, build_on_meta, step_flops, without_weights

from . import report, scenes
from .loader import PhotoFolder

HERE = Path(__file__).resolve().parent
CONFIGS = HERE.parent / 'configs' / 'distill'
CASES = {
    'b16-560': 'r-sc-clipself/r-sc-clipself_eva02-vit-b16_1xb16-amp-6e_coco-560.py',
    'b16-1024': 'r-sc-clipself/r-sc-clipself_eva02-vit-b16_8xb2-amp-6e_coco-1024.py',
    'l14-896': 'r-sc-clipself/r-sc-clipself_eva02-vit-l14-336_8xb2-amp-6e_coco-896.py',
}
TOY = 'toy/r-sc-rla_vit-toy_1xb2-4i_photos.py'


def parse_args(argv: list[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog='python -m benchmarks gpu',
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        'cases', nargs='*', metavar='CASE', help=f'{", ".join(CASES)} or a config (default: all)'
    )
    parser.add_argument('--batch-size', type=int, default=16, help='images per step')
    parser.add_argument('--steps', type=int, default=20, help='measured steps')
    parser.add_argument('--warmup', type=int, default=5, help='steps before')
    parser.add_argument('--device', default='cuda')
    parser.add_argument('--dtype', choices=['float32', 'bfloat16'], default='bfloat16')
    parser.add_argument('--compile', action='store_true', help='compile block by block')
    parser.add_argument('--attention-backend', help="the encoder's key of that name")
    parser.add_argument('--with-cp', action='store_true', help='recompute activations')
    parser.add_argument('--peak-tflops', type=float, help='matrix peak of the device, for the MFU')
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--quick', action='store_true', help='toy model, 2 images, 2 steps')
    parser.add_argument(
        '--out', type=Path, metavar='DIR', help='put the rows into DIR/results.json'
    )
    args = parser.parse_args(argv)
    if args.device.startswith('cuda') and not torch.cuda.is_available():
        parser.error('--device cuda: expected a GPU, got none; try --device cpu --quick')
    if args.quick:
        args.batch_size, args.steps, args.warmup = 2, 2, 1
    return args


def build(config: Config, args: argparse.Namespace) -> Any:
    """The training stage of a config, with random weights and the encoder's options."""
    model_config = without_weights(config.model.to_dict())
    encoder = model_config['student' if 'student' in model_config else 'encoder']
    encoder |= dict(with_cp=args.with_cp, attention_backend=args.attention_backend)
    if args.compile:
        encoder['compile_blocks'] = {}
    torch.manual_seed(args.seed)
    return MODELS.build(model_config).to(args.device).train()


def raw_batch(sampler: Any, args: argparse.Namespace, step: int) -> dict[str, list]:
    """Noise images with regions, as the loader ships them."""
    generator = np.random.default_rng((args.seed, step))
    width, height = scenes.COCO_SIZE
    images = generator.integers(0, 256, (args.batch_size, 3, height, width), dtype=np.uint8)
    boxes = [torch.from_numpy(sampler(width, height, generator, '')) for _ in images]
    return dict(inputs=list(torch.from_numpy(images)), boxes=boxes)


def analytic_flops(config: Config, regions: list[int], batch_size: int) -> list[float]:
    """FLOPs of steps with so many regions, of the config's model on the meta device."""
    model = build_on_meta(config.model.to_dict())
    per_image = [count / batch_size for count in regions]
    counts = [step_flops(model, Regions(mean, mean, 'drawn')) for mean in per_image]
    return [batch_size * sum(parts.values()) for parts in counts]


def loader_seconds(num_items: int = 20) -> float:
    """Host seconds of one item of 640 x 480, on one core."""
    dataset = PhotoFolder()
    seconds = []
    for _ in range(num_items):
        start = time.perf_counter()
        dataset[0]
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def measure(path: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Build, warm up, step; everything that is known afterwards."""
    config = Config.fromfile(path)
    model, on_gpu = build(config, args), args.device.startswith('cuda')
    optimizer = build_optim_wrapper(model, dict(optimizer=config.optim_wrapper.optimizer))
    sampler = build_region_sampler(config.train_dataloader.dataset.region_sampler)
    # Entered here rather than by AmpOptimWrapper, so that a CPU and a GPU take the same path.
    autocast = torch.autocast(
        torch.device(args.device).type, torch.bfloat16, enabled=args.dtype == 'bfloat16'
    )
    seconds, regions, losses = [], [], {}
    for step in range(args.warmup + args.steps):
        data = raw_batch(sampler, args, step)
        if on_gpu:
            torch.cuda.synchronize(args.device)
            torch.cuda.reset_peak_memory_stats(args.device)
        start = time.perf_counter()
        with autocast:
            losses = model.train_step(data, optimizer)
        if on_gpu:
            torch.cuda.synchronize(args.device)
        if step >= args.warmup:
            seconds.append(time.perf_counter() - start)
            regions.append(sum(map(len, data['boxes'])))
    return dict(
        config=path.stem,
        device=torch.cuda.get_device_name(args.device) if on_gpu else 'cpu',
        seconds=seconds,
        regions=regions,
        flops=analytic_flops(config, regions, args.batch_size),
        peak_gib=_peak_gib(args.device),
        losses={name: float(value.detach()) for name, value in losses.items()},
    )


def _peak_gib(device: str) -> float:
    """Of the last step's live tensors on a GPU, of the whole process on a CPU."""
    if device.startswith('cuda'):
        return torch.cuda.max_memory_allocated(device) / 2**30
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


def figures(row: dict[str, Any], args: argparse.Namespace) -> dict[str, float]:
    """Images per second, MFU where the peak is known, and loader cores at that rate."""
    rates = [args.batch_size / value for value in row['seconds']]
    found = dict(images_per_second=statistics.median(rates))
    found['loader_cores'] = found['images_per_second'] * loader_seconds()
    if args.peak_tflops:
        pairs = zip(row['flops'], row['seconds'], strict=True)
        found['mfu'] = statistics.median(f / s for f, s in pairs) / args.peak_tflops / 1e12
    return found


def main(argv: list[str]) -> int:
    """Measure each case, print it and store it."""
    args = parse_args(argv)
    names = args.cases or (['toy'] if args.quick else list(CASES))
    surroundings = report.surroundings(shlex.join(['python', '-m', 'benchmarks', 'gpu', *argv]))
    options = {
        key: getattr(args, key)
        for key in ('batch_size', 'dtype', 'compile', 'attention_backend', 'with_cp')
    }
    for name in names:
        path = CONFIGS / {**CASES, 'toy': TOY}[name] if name in {*CASES, 'toy'} else Path(name)
        row = measure(path, args)
        row |= dict(figures=figures(row, args), **options, **surroundings, quick=args.quick)
        values = '  '.join(f'{key} {value:.3g}' for key, value in row['figures'].items())
        sys.stdout.write(f'{path.stem}  {values}  peak {row["peak_gib"]:.2f} GiB\n')
        sys.stdout.flush()
        if args.out is not None:
            report.store(args.out, f'gpu-{path.stem if Path(name).suffix else name}', row)
    return 0
