"""``python -m refineclip microworld OUT``: write the microworld in COCO's layout."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from .help_text import command_parser

# A pilot's sizes for training; 300 images keep the intervals of an evaluation narrow.
SPLITS = {'train': 384, 'val': 300}


def main(argv: Sequence[str] | None = None) -> int:
    """Write the splits; returns 0."""
    parser = command_parser(
        'microworld',
        'Draw the microworld: images with exact masks and captions, in the COCO layout. It says '
        'nothing about real images.',
        'data/microworld',
    )
    parser.add_argument('out', type=Path, help='folder to write, e.g. data/microworld')
    parser.add_argument('--seed', type=int, default=0, help='seed of the images (default: 0)')
    for split, count in SPLITS.items():
        parser.add_argument(
            f'--{split}',
            type=int,
            default=count,
            metavar='N',
            help=f'images of the split {split} (default: {count}; 0 leaves it out)',
        )
    parser.add_argument('--sheet', type=Path, help='also draw some of its images into this file')
    args = parser.parse_args(argv)
    counts = {split: getattr(args, split) for split in SPLITS}
    if args.seed < 0 or min(counts.values()) < 0 or not any(counts.values()):
        parser.error(f'expected a seed and numbers >= 0, some image among them, got {vars(args)}')

    from refineclip.datasets.microworld import write_split

    for split, count in counts.items():
        if count:
            write_split(args.out, split, count, args.seed)
            sys.stdout.write(f'{args.out / split}: {count} images\n')
    if args.sheet is not None:
        from refineclip.datasets.microworld.sheet import contact_sheet

        contact_sheet(seed=args.seed).save(args.sheet)
    return 0
