"""``python -m refineclip demo``: refine a small ViT on photos, and show what changed.

The real path at a small size: stage 1 (``RefinerTraining``) and stage 2 (``RegionAlignment`` with
``method='r-sc-v'``), both vision-only, through mmengine's runner; then the saved files are loaded
as a user would load them and measured on photos that neither stage has seen.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.device import get_device
from mmengine.logging import print_log
from mmengine.registry import DATASETS, MODELS
from torch import Tensor
from torch.nn import functional as F

from refineclip.commands import demo_stages
from refineclip.commands.demo_photos import folder_photos, sample_photos
from refineclip.datasets import collate_regions
from refineclip.distill.losses.scd_loss import scd_loss
from refineclip.distill.region_batch import RegionBatch
from refineclip.distill.roi_ops import pool_tokens
from refineclip.evaluation.region_agreement import RegionAgreement, region_agreement

MODEL, RANDOM_DEPTH = 'timm/vit_tiny_patch16_224', 6
ALL = 10**9


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog='python -m refineclip demo',
        description='Refine a small ViT on photos without labels, and show what changed.',
    )
    parser.add_argument(
        '--images', type=Path, metavar='FOLDER', help='default: the photos of scikit-image'
    )
    parser.add_argument(
        '--model',
        help='name of timm (timm/...) or open_clip; default: '
        f'{MODEL}, cut to {RANDOM_DEPTH} blocks when its weights are random',
    )
    parser.add_argument(
        '--pretrained', metavar='FILE_OR_TAG', help='default: random weights, nothing is downloaded'
    )
    parser.add_argument('--out', type=Path, default=Path('work_dirs/demo'), metavar='DIR')
    parser.add_argument('--iters', type=int, default=60, help='iterations per stage (default: 60)')
    parser.add_argument(
        '--image-size', type=int, help='side in pixels; default: what the model was made for'
    )
    parser.add_argument('--seed', type=int, default=0)
    args = parser.parse_args(argv)
    if args.iters < 1:
        parser.error(f'--iters: expected 1 or more, got {args.iters}')
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo.

    Returns:
        0, or 2 with a message when images, model or weights cannot be had.
    """
    args = parse_args(argv)
    # Threads that wait for each other on a busy machine cost minutes: two on two cores took 6 times
    # the processor time of one.
    torch.set_num_threads(max(1, min(torch.get_num_threads(), (os.cpu_count() or 1) // 2)))
    try:
        photos = sample_photos() if args.images is None else folder_photos(args.images)
        args.out.mkdir(parents=True, exist_ok=True)
        encoder, pixels = prepare_encoder(args)
    except (ModuleNotFoundError, FileNotFoundError, ValueError) as error:
        sys.stderr.write(f'demo: {error}\n')
        return 2
    train_list, held_out_list = photos.write_lists(args.out)
    sys.stdout.write(describe(args, encoder, pixels, len(photos.train), len(photos.held_out)))
    sys.stdout.flush()
    refiner, student = run_stages(
        encoder,
        pixels,
        demo_stages.image_folder(str(photos.root), train_list, seed=args.seed),
        args,
    )
    backbones = {
        'frozen': encoder,
        'Refiner': dict(encoder, refiner=dict(demo_stages.REFINER, checkpoint=str(refiner))),
        'refined': dict(
            encoder, pretrained=None, init_cfg=dict(type='Pretrained', checkpoint=str(student))
        ),
    }
    held_out = demo_stages.image_folder(str(photos.root), held_out_list, fixed_regions=True)
    rows = measure(backbones, pixels, held_out)
    sys.stdout.write(report(rows, len(photos.held_out)))
    sys.stdout.write(closing(args, refiner, student, backbones['refined']))
    return 0


def prepare_encoder(args: argparse.Namespace) -> tuple[dict[str, Any], dict[str, Any]]:
    """Build the encoder once and save it, so that all stages start from the same weights.

    Returns:
        Config of the backbone, and of the preprocessor.

    Raises:
        FileNotFoundError: The weight file does not exist.
        ValueError: Model, weights or image size do not fit.
    """
    torch.manual_seed(args.seed)
    config: dict[str, Any] = dict(type='RefinerCLIP', model=args.model or MODEL)
    if args.model is None and args.pretrained is None:
        config['model_kwargs'] = dict(depth=RANDOM_DEPTH)
    encoder = MODELS.build(dict(config, pretrained=args.pretrained))
    size, patch = args.image_size or encoder.visual.native_size[0], encoder.visual.patch_size
    if size < patch or size % patch:
        raise ValueError(
            f'--image-size: expected a multiple of the patch size {patch} of {config["model"]}, '
            f'got {size}'
        )
    weights = args.out / 'encoder.pth'
    torch.save(dict(state_dict=encoder.state_dict()), weights)
    pixels = demo_stages.preprocessor(encoder.image_mean, encoder.image_std, size)
    return dict(config, pretrained=str(weights)), pixels


def describe(
    args: argparse.Namespace,
    encoder: dict[str, Any],
    pixels: dict[str, Any],
    num_train: int,
    num_held_out: int,
) -> str:
    """Say what is about to run."""
    source = args.images or 'the photos that scikit-image ships'
    weights = f'weights {args.pretrained}'
    if args.pretrained is None:
        weights = (
            'RANDOM weights: the numbers below show that the pipeline works,\n'
            '       they say nothing about the quality of a refined model (use --pretrained)'
        )
    return (
        f'images {source}: {num_train} to train, {num_held_out} held out\n'
        f'model  {encoder["model"]} {encoder.get("model_kwargs", "")} at '
        f'{pixels["image_size"]} px, {weights}\n'
    )


def run_stages(
    encoder: dict[str, Any],
    pixels: dict[str, Any],
    dataset: dict[str, Any],
    args: argparse.Namespace,
) -> tuple[Path, Path]:
    """Train both stages.

    Returns:
        Stage 1's checkpoint, and the refined backbone of stage 2.
    """
    sys.stdout.write('stage 1: a Refiner learns what close-ups of the photos look like\n')
    refiner = demo_stages.train(
        'refiner',
        demo_stages.refiner_stage(encoder, pixels),
        dataset,
        args.out / 'stage1',
        args.iters,
        args.seed,
    )
    sys.stdout.write('stage 2: the encoder learns the spatial correlations of the Refiner\n')
    aligned = demo_stages.train(
        'alignment',
        demo_stages.alignment_stage(encoder, str(refiner), pixels),
        dataset,
        args.out / 'stage2',
        args.iters,
        args.seed,
    )
    return refiner, aligned.with_name(f'refined_{aligned.name}')


@torch.no_grad()
def measure(
    backbones: dict[str, dict[str, Any]], pixels: dict[str, Any], dataset: dict[str, Any]
) -> dict[str, dict[str, Any]]:
    """Measure backbones on held-out images.

    Args:
        backbones: Configs of 'frozen', 'Refiner' and 'refined'.
        pixels: Config of the preprocessor.
        dataset: Config of the held-out images.

    Returns:
        Per backbone: ``contrast``, stage 1's own loss against all close-ups; ``agreement``, a
        :class:`RegionAgreement` with the frozen encoder's close-ups; ``divergence``, KL of its
        token correlations from the Refiner's (nats), stage 2's own loss; ``unmoved``, mean cosine
        to the frozen encoder's token at the same place.
    """
    device = get_device()
    models = {}
    for name, config in backbones.items():
        models[name] = MODELS.build(config).to(device).eval()
        models[name].init_weights()  # loads the file of init_cfg
    batch = load_batch(pixels, dataset, device)
    contrast = MODELS.build(dict(demo_stages.REFINE_LOSS, num_negatives_per_image=ALL))
    maps = {name: F.normalize(model.dense(batch.images), dim=1) for name, model in models.items()}
    closeups = F.normalize(models['frozen'].dense(batch.crops), dim=1)
    index = torch.arange(len(closeups), device=device, dtype=torch.float32)[:, None]
    crop_boxes = torch.cat([index, batch.crop_boxes], dim=1)
    targets = pool_tokens(closeups, crop_boxes, contrast.roi_size)
    regions = {name: pool_tokens(dense, batch.boxes, 8) for name, dense in maps.items()}
    rows = {}
    for name, dense in maps.items():
        tokens, owner = pool_tokens(dense, batch.boxes, contrast.roi_size), batch.boxes[:, 0]
        rows[name] = dict(
            contrast=contrast(tokens, targets, owner).item(),
            agreement=region_agreement(tokens, targets, owner),
            divergence=scd_loss(regions[name], regions['Refiner'], divergence='kl').mean().item(),
            unmoved=mean_cosine(dense, maps['frozen']),
        )
    return rows


def mean_cosine(first: Tensor, second: Tensor) -> float:
    """Mean cosine of L2-normalised maps (B, D, h, w) at the same places."""
    return (first * second).sum(dim=1).mean().item()


def load_batch(pixels: dict[str, Any], dataset: dict[str, Any], device: str) -> RegionBatch:
    """Read a whole dataset as one batch."""
    folder = DATASETS.build(dataset)
    data = collate_regions([folder[index] for index in range(len(folder))])
    for path, reason in data['bad_images']:
        print_log(f'Skipped image {path}: {reason}', logger='current', level=logging.WARNING)
    return MODELS.build(pixels).to(device)(data)['inputs']


def report(rows: dict[str, dict[str, Any]], num_images: int) -> str:
    """Lay the measures out as a table, one column per backbone."""
    agreement: dict[str, RegionAgreement] = {name: row['agreement'] for name, row in rows.items()}
    lines = {
        'contrast of regions with close-ups (stage 1 lowers it)': {
            name: f'{row["contrast"]:.3f}' for name, row in rows.items()
        },
        '  cosine of region tokens to their own close-up': {
            name: f'{one.cosine:.3f}' for name, one in agreement.items()
        },
        '  own close-up nearest among those of other photos': {
            name: f'{one.top1:.1%}' for name, one in agreement.items()
        },
        "KL from the Refiner's correlations (stage 2 lowers it)": {
            name: f'{row["divergence"]:.4f}' for name, row in rows.items()
        },
        'cosine to the frozen token at the same place': {
            name: f'{row["unmoved"]:.3f}' for name, row in rows.items()
        },
    }
    header = f'\n{f"on {num_images} held-out photos":56s}' + ''.join(f'{n:>10s}' for n in rows)
    body = [
        f'{label:56s}' + ''.join(f'{values[name]:>10s}' for name in rows)
        for label, values in lines.items()
    ]
    legend = (
        'frozen: before; Refiner: after stage 1; refined: the backbone of stage 2, blended with\n'
        f'the frozen one. "Nearest" is {agreement["frozen"].chance:.1%} by chance.'
    )
    return '\n'.join([header, *body, legend]) + '\n'


def closing(
    args: argparse.Namespace, refiner: Path, student: Path, backbone: dict[str, Any]
) -> str:
    """Say where the results are and how to use them."""
    shown = {key: value for key, value in backbone.items() if value is not None}
    shown['init_cfg'] = dict(type='Pretrained', checkpoint=str(student.resolve()))
    arguments = ', '.join(
        f'{key}=' + (f'dict({_pairs(value)})' if isinstance(value, dict) else repr(value))
        for key, value in shown.items()
    )
    warning = ' (random weights: pipeline only)' if args.pretrained is None else ''
    return (
        f'\nRefiner:          {refiner}\n'
        f'refined backbone: {student}\n'
        f'use it:           backbone=dict({arguments})\n\n'
        f'demo: done, both stages trained and their files load{warning}\n'
    )


def _pairs(values: dict[str, Any]) -> str:
    return ', '.join(f'{key}={value!r}' for key, value in values.items())
