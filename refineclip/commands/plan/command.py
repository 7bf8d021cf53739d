"""``python -m refineclip plan CONFIG``: what a training run costs, before anything starts."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config_options import add_config_options, override, read_config_file
from ..evaluate.common import check_writable, write_json
from ..help_text import command_parser
from .devices import DEVICES
from .report import describe

if TYPE_CHECKING:
    from mmengine.config import Config

    from refineclip.distill.cost import Memory


# For folders and lists that are not on this machine.
KNOWN_SIZES = {
    'train2017': 118_287,
    'lvis_v1_train': 100_170,
    'lvis_v1_train_seen_1203_cat': 100_170,
    'instances_train2017_seen_2_65_cat': 107_761,
}
NOTES = (
    "The times are those of the stated share of the peak (--mfu): CLIPSelf's published runs reach "
    '17 % (B/16) and 23 % (L/14) on an A100. --check 224 336 times a real step on this machine at '
    'both sizes and says how far the plan is off.'
)


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = command_parser(
        'plan',
        'FLOPs, parameters, memory and time of a training config, before it runs.',
        'configs/microworld/r-sc-rla_microworld.py --gpus 8 --gpu a100',
        notes=NOTES,
    )
    parser.add_argument('config', type=Path, help='of a stage, a detector or a segmentor')
    parser.add_argument('--gpus', type=int, default=1, help='processes (default: 1)')
    parser.add_argument('--batch-size', type=int, help="images per process (default: config's)")
    parser.add_argument(
        '--gpu', choices=[*DEVICES, 'cpu'], default='h100', help='default: h100; cpu is measured'
    )
    parser.add_argument('--peak-tflops', type=float, help='matrix peak, in place of the data sheet')
    parser.add_argument(
        '--mfu', type=float, default=0.4, help='share of the peak that is reached (default: 0.4)'
    )
    parser.add_argument('--images', type=int, help='images of the data set (default: counted)')
    add_config_options(parser, 'model.student.with_cp=True')
    parser.add_argument('--json', type=Path, metavar='FILE', help='write all numbers to this file')
    parser.add_argument(
        '--check',
        nargs=2,
        type=int,
        metavar=('SIZE', 'SIZE'),
        help='time a step of two image sizes here (CPU): the first calibrates, the second is held '
        'against its plan',
    )
    args = parser.parse_args(argv)
    if not args.config.is_file():
        parser.error(f'expected a config file, got {str(args.config)!r}, which does not exist')
    for name in ('gpus', 'batch_size', 'images', 'peak_tflops'):
        value = getattr(args, name)
        if value is not None and value <= 0:
            parser.error(f'--{name.replace("_", "-")}: expected a value above 0, got {value}')
    if not 0 < args.mfu <= 1:
        parser.error(f'--mfu: expected a share in (0, 1], got {args.mfu}')
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Plan a config; returns 0, or 2 for input that cannot be planned."""
    args = parse_args(argv)
    try:
        check_writable(args.json)
        config = load_config(args)
        if args.check:
            from .check import check

            calibrate, predict = args.check
            result = check(config, calibrate, predict)
        else:
            result = plan(config, args)
            sys.stdout.write(describe(result))
        if args.json:
            write_json(args.json, result)
    except (ValueError, TypeError, OSError) as error:
        # Every one of them says what was expected, what came and what to do.
        sys.stderr.write(f'python -m refineclip plan: error: {error}\n')
        return 2
    return 0


def load_config(args: argparse.Namespace) -> Config:
    """Read the config with its overrides.

    Raises:
        ValueError: An override is not ``KEY=VALUE``.
    """
    config = read_config_file(args.config)
    override(config, args.cfg_options)
    if args.batch_size is not None:
        config.train_dataloader.batch_size = args.batch_size
    return config


def plan(config: Config, args: argparse.Namespace) -> dict[str, Any]:
    """All numbers of the plan, by name; FLOPs, bytes and seconds without prefix."""
    from refineclip.distill import cost

    dtype = precision(config)
    if cost.is_stage(config.model):
        counted = stage_cost(config, dtype, args.gpus)
    else:
        from .host import host_cost

        counted = host_cost(config)
    batch_size = config.train_dataloader.batch_size
    peak = peak_tflops(args, str(dtype) != 'torch.float32')
    rate = args.gpus * peak * 1e12 * args.mfu / sum(counted['flops_per_image'].values())
    return dict(
        config=Path(config.filename).stem,
        model=config.model.type,
        gpus=args.gpus,
        gpu=args.gpu,
        batch_size=batch_size,
        dtype=str(dtype).removeprefix('torch.'),
        peak_tflops=peak,
        mfu=args.mfu,
        **counted,
        images_per_second=rate,
        **schedule(config, args, rate, batch_size),
    )


def stage_cost(config: Config, dtype: Any, gpus: int) -> dict[str, Any]:
    """What one of the two stages costs, counted without running it."""
    from refineclip.distill import cost

    model = cost.build_on_meta(config.model.to_dict())
    regions = cost.regions_of(model, config.train_dataloader.dataset.region_sampler)
    optimizer = config.optim_wrapper.optimizer.to_dict()
    batch_size = config.train_dataloader.batch_size
    memory = cost.step_memory(model, batch_size, regions, optimizer, dtype)
    trainable, frozen = cost.count_parameters(model)
    return dict(
        with_cp=any(getattr(module, 'with_cp', False) for module in model.modules()),
        regions=asdict(regions),
        flops_per_image=cost.step_flops(model, regions),
        parameters=dict(trainable=trainable, frozen=frozen),
        memory_per_gpu=device_memory(memory, gpus),
    )


def precision(config: Config) -> Any:
    """The type that training computes in."""
    import torch

    wrapper = config.optim_wrapper
    if wrapper.get('type') != 'AmpOptimWrapper':
        return torch.float32
    return getattr(torch, wrapper.get('dtype') or 'float16')


def peak_tflops(args: argparse.Namespace, half: bool) -> float:
    """Peak of the device: as given, by its data sheet, or (CPU) of a matrix product right now."""
    if args.peak_tflops:
        return float(args.peak_tflops)
    if args.gpu in DEVICES:
        device = DEVICES[args.gpu]
        return device.half_tflops if half else device.float_tflops
    from .check import matrix_peak

    return matrix_peak() / 1e12


def device_memory(memory: Memory, gpus: int) -> dict[str, float]:
    """Bytes on one device; DDP keeps a second copy of the gradients."""
    weights, gradients, optimizer = memory.weights, memory.gradients, memory.optimizer
    buckets = memory.gradients if gpus > 1 else 0
    fixed = weights + gradients + optimizer + buckets
    return dict(
        weights=weights,
        gradients=gradients,
        buckets=buckets,
        optimizer=optimizer,
        activations=memory.activations,
        activations_with_cp=memory.activations_with_cp,
        total=fixed + memory.activations,
        total_with_cp=fixed + memory.activations_with_cp,
    )


def schedule(
    config: Config, args: argparse.Namespace, rate: float, batch_size: int
) -> dict[str, Any]:
    """Images, steps and seconds of an epoch and of the whole run."""
    images, source = count_images(config.train_dataloader.dataset, args.images)
    step = args.gpus * batch_size
    loop = config.train_cfg
    per_epoch = max(1, images // step) if images else None
    if loop.get('max_iters'):
        steps = loop.max_iters
    elif per_epoch is None:
        raise ValueError(
            f'expected the number of images, for a schedule of epochs: {source}; give --images N'
        )
    else:
        steps = loop.max_epochs * per_epoch
    return dict(
        images=images,
        images_source=source,
        steps=steps,
        epochs=None if per_epoch is None else steps / per_epoch,
        seconds_per_step=step / rate,
        seconds_per_epoch=None if per_epoch is None else per_epoch * step / rate,
        seconds=steps * step / rate,
    )


def count_images(dataset: Any, given: int | None) -> tuple[int | None, str]:
    """Number of images and where it is from; None where it cannot be known."""
    from refineclip.datasets.image_folder import list_images, read_image_list

    if given is not None:
        return given, '--images'
    if 'data_prefix' in dataset:  # of mmdet or mmseg, which list it themselves
        names = [dataset.get('ann_file', ''), *dataset.data_prefix.values()]
        known = [name for name in names if Path(name).stem in KNOWN_SIZES]
        if not known:
            return None, f'no published size is known of {dataset.data_root}'
        return KNOWN_SIZES[Path(known[0]).stem], f'the published size of {known[0]}'
    root, listed = Path(dataset.data_root), dataset.get('ann_file')
    place = Path(listed) if listed else root
    if listed and place.is_file():
        return len(read_image_list(place)), str(place)
    if not listed and root.is_dir():
        return len(list_images(root)), str(root)
    if place.stem in KNOWN_SIZES:
        return KNOWN_SIZES[place.stem], f'{place} is not here; the size of the published data set'
    return None, f'{place} is not here'
