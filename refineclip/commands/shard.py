"""``python -m refineclip shard IMAGES --out SHARDS``: a folder of images as a few large files."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from .help_text import command_parser


def main(argv: Sequence[str] | None = None) -> int:
    """Write the shards; returns 0."""
    parser = command_parser(
        'shard',
        'Write a folder of images, bytes as they are, into shards that training reads by '
        'train_dataloader.dataset.type=RegionImageShards. While it runs it takes twice the space. '
        "Needs pip install 'refineclip-mm[shards]'.",
        'data/microworld/train --out data/microworld/train_shards',
    )
    parser.add_argument('images', type=Path, help='folder of images')
    parser.add_argument('--out', type=Path, required=True, help='folder to make')
    parser.add_argument('--ann-file', type=Path, help='only the images that it lists (json or txt)')
    parser.add_argument(
        '--images-per-shard',
        type=int,
        default=1000,
        metavar='N',
        help='at most so many images in a file (default: %(default)s)',
    )
    args = parser.parse_args(argv)
    if args.images_per_shard < 1:
        parser.error(f'--images-per-shard: expected 1 or more, got {args.images_per_shard}')
    if not args.images.is_dir():
        parser.error(f'expected a folder of images, got {str(args.images)!r}, which is no folder')

    from refineclip.datasets.shards import write_shards

    try:
        number = write_shards(args.images, args.out, args.images_per_shard, args.ann_file)
    except (ImportError, OSError, ValueError) as error:
        parser.error(str(error))
    sys.stdout.write(f'{args.out}: {number} images\n')
    return 0
