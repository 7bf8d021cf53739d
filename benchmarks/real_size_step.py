"""Time and weigh training steps of a config at its real size, on made-up images.

    python benchmarks/real_size_step.py CONFIG --images 2 --steps 1

Builds the model of the config with random weights, feeds it uint8 noise
images of COCO's usual 640 x 480 with regions of the config's own sampler through the config's own
preprocessor, and steps the config's optimizer. Prints one JSON line: images per second, peak
memory, and on a GPU the share of its bf16 peak that the model's matrix products use (MFU;
recomputation and everything that is no matrix product are not counted).
"""

from __future__ import annotations

import argparse
import json
import platform
import resource
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS
from torch.utils.flop_counter import FlopCounterMode

from refineclip.datasets.image_folder import build_region_sampler

IMAGE_SIZE = (480, 640)  # height and width, the most common size in COCO
WEIGHT_KEYS = ('pretrained', 'checkpoint')


def parse_args() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', type=Path)
    parser.add_argument('--images', type=int, default=2, help='images per step')
    parser.add_argument('--steps', type=int, default=1, help='measured steps')
    parser.add_argument('--warmup', type=int, default=0, help='steps before')
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu')
    parser.add_argument('--dtype', choices=['float32', 'bfloat16'], default='float32')
    parser.add_argument('--with-cp', action='store_true', help='recompute activations')
    parser.add_argument('--peak-tflops', type=float, help='matrix peak of the GPU, for the MFU')
    parser.add_argument('--seed', type=int, default=0)
    return parser.parse_args()


def without_weights(node: Any) -> Any:
    """A config tree with every weight source set to None."""
    if isinstance(node, dict):
        return {k: None if k in WEIGHT_KEYS else without_weights(v) for k, v in node.items()}
    return node


def raw_batch(config: Config, args: argparse.Namespace, step: int) -> dict[str, list]:
    """Noise images with regions, as the loader ships them."""
    sampler = build_region_sampler(config.train_dataloader.dataset.region_sampler)
    generator = np.random.default_rng((args.seed, step))
    height, width = IMAGE_SIZE
    images = generator.integers(0, 256, (args.images, 3, height, width), dtype=np.uint8)
    boxes = [sampler(width, height, generator, '') for _ in range(args.images)]
    return dict(
        inputs=list(torch.from_numpy(images)), boxes=[torch.from_numpy(one) for one in boxes]
    )


def peak_memory(device: str) -> float:
    """GiB: of the process on a CPU, of the allocator on a GPU."""
    if device == 'cpu':
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return torch.cuda.max_memory_allocated() / 2**30


def main() -> None:
    """Build, step, report."""
    args = parse_args()
    torch.manual_seed(args.seed)
    config = Config.fromfile(args.config)
    model_config = without_weights(config.model.to_dict())
    model_config['student' if 'student' in model_config else 'encoder']['with_cp'] = args.with_cp
    model = MODELS.build(model_config).to(args.device).train()
    optimizer = build_optim_wrapper(model, dict(optimizer=config.optim_wrapper.optimizer))
    # Entered here rather than by AmpOptimWrapper, so that a CPU and a GPU take the same path.
    autocast = torch.autocast(
        torch.device(args.device).type, torch.bfloat16, enabled=args.dtype == 'bfloat16'
    )
    seconds, regions, flops = [], [], 0
    for step in range(args.warmup + args.steps):
        data = raw_batch(config, args, step)
        regions.append(sum(map(len, data['boxes'])))
        counter = FlopCounterMode(display=False)
        start = time.perf_counter()
        with autocast, counter if step == 0 else nullcontext():
            losses = model.train_step(data, optimizer)
        if args.device != 'cpu':
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - start)
        flops = flops or counter.get_total_flops()
    measured = seconds[args.warmup :]
    result = dict(
        config=args.config.stem,
        machine=torch.cuda.get_device_name() if args.device != 'cpu' else platform.processor(),
        threads=torch.get_num_threads(),
        torch=torch.__version__,
        dtype=args.dtype,
        with_cp=args.with_cp,
        images=args.images,
        regions=regions[args.warmup :],
        seconds=[round(value, 3) for value in measured],
        images_per_second=round(args.images / float(np.median(measured)), 4),
        peak_gib=round(peak_memory(args.device), 2),
        tflop_first_step=round(flops / 1e12, 2),
        losses={name: round(float(value.detach()), 4) for name, value in losses.items()},
    )
    if args.peak_tflops:
        # Counted on the first step; the number of crops differs a little from step to step.
        result['mfu'] = round(flops / float(np.median(measured)) / args.peak_tflops / 1e12, 3)
    print(json.dumps(result))


if __name__ == '__main__':
    main()
