"""``evaluate image``: zero-shot classification and retrieval, before and after refinement.

All rows are measured with one text tower, that of the original weights: refinement never touches
it. Photos are resized as the library does for the tower. Dense mode, Refiner and @N have no say in
image embeddings: such rows equal the frozen one here.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .common import (
    add_row_arguments,
    as_json,
    check_writable,
    compare_rows,
    environment,
    parse_rows,
    quiet_logging,
    tables,
    write_json,
)

if TYPE_CHECKING:
    from refineclip.evaluation import ImageScores, PairedDifference

EXAMPLE = (
    '--captions data/microworld/annotations/captions_val.json --image-root data/microworld/val '
    '--model microworld-clip --models frozen=shipped random=random --compare frozen'
)
CLASSES = {'top1': 'images@1', 'top5': 'images@5', 'class_top1': 'classes@1'}
WAYS = {'image_to_text': 'image->text', 'text_to_image': 'text->image'}
RETRIEVAL = {
    head: {f'{way}_recall{k}': f'recall@{k}' for k in (1, 5, 10)} for way, head in WAYS.items()
}
# Measures that get a sentence of their own.
SENTENCES = {
    'top1': 'zero-shot top-1',
    'image_to_text_recall1': 'image->text recall@1',
    'text_to_image_recall1': 'text->image recall@1',
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``evaluate image``."""
    add_row_arguments(parser)
    data = parser.add_argument_group('data: --data, --captions or both')
    data.add_argument(
        '--data', type=Path, metavar='FOLDER', help='one folder of images per class (ImageNet)'
    )
    data.add_argument(
        '--class-names',
        type=Path,
        metavar='FILE',
        help='names of the class folders (json or txt; default: classes.json or classes.txt in '
        'FOLDER, else the names of the folders)',
    )
    data.add_argument('--captions', type=Path, metavar='JSON', help='captions in COCO format')
    data.add_argument(
        '--image-root', type=Path, metavar='DIR', help='folder of the images of --captions'
    )
    data.add_argument(
        '--captions-per-image',
        type=int,
        metavar='N',
        help='first N captions of an image (default: all; published recalls on COCO take 5)',
    )
    text = parser.add_argument_group('text')
    text.add_argument(
        '--text-pretrained',
        metavar='CHECKPOINT',
        help='weights of the text tower (default: those of the first row that has any)',
    )
    text.add_argument(
        '--templates',
        default='imagenet',
        help='prompts of class names: imagenet, photo, vild, or your own (default: imagenet)',
    )
    text.add_argument(
        '--cache-dir', type=Path, metavar='DIR', help='keep embeddings here for the next call'
    )
    photos = parser.add_argument_group("photos (default: the library's own for the tower)")
    photos.add_argument('--image-size', type=int, help='side in pixels (default: native size)')
    photos.add_argument(
        '--resize-mode',
        choices=('shortest', 'longest', 'squash'),
        help='resize the shorter side and crop, the longer one and pad, or both',
    )
    photos.add_argument('--interpolation', choices=('bicubic', 'bilinear'))
    photos.add_argument('--batch-size', type=int, default=64, help='images (default: 64)')
    photos.add_argument(
        '--num-workers', type=int, default=0, help='processes that read images (default: 0)'
    )


def run(args: argparse.Namespace) -> int:
    """Measure every row and print the tables."""
    quiet_logging()
    rows = parse_rows(args.models, args.compare)
    _check_arguments(args)

    from refineclip.datasets.class_folders import ClassFolders
    from refineclip.datasets.coco_captions import CocoCaptions

    from .image_guard import ImageGuard

    folders = None if args.data is None else ClassFolders(args.data, args.class_names)
    captions = (
        None
        if args.captions is None
        else CocoCaptions(args.captions, args.image_root, args.captions_per_image)
    )
    guard = ImageGuard(args, rows)
    scores: dict[str, dict[str, ImageScores]] = {name: {} for name in rows}
    changes: dict[str, dict[str, PairedDifference]] = {n: {} for n in rows if n != args.compare}
    content: dict[str, Any] = {'kind': 'image', 'settings': guard.settings()}
    parts: list[tuple[str, dict[str, dict[str, str]], Any]] = []
    if folders is not None:
        parts.append(('classification', {'zero-shot': CLASSES}, guard.classify(folders)))
    if captions is not None:
        parts.append(('retrieval', RETRIEVAL, guard.retrieve(captions)))
    for title, blocks, (found, facts) in parts:
        measures = next(iter(found.values()))
        differences = compare_rows(found, args.compare)
        for head, columns in blocks.items():
            there = {key: name for key, name in columns.items() if key in measures}
            head = f'{head}, {facts["num_images"]} images'
            sys.stdout.write(tables(head, there, found, differences, args.compare) + '\n')
        sys.stdout.write(sentences(differences, args.compare))
        for name, own in found.items():
            scores[name] |= own
        for name, change in differences.items():
            changes[name] |= change
        content[title] = facts
    if args.json is not None:
        content |= as_json(scores, changes if args.compare else {})
        write_json(args.json, {**content, 'environment': environment()})
    return 0


def sentences(
    differences: Mapping[str, Mapping[str, PairedDifference]], baseline: str | None
) -> str:
    """Say by how much every row gains or drops against the baseline.

    Nothing is called a change whose 95 % interval holds zero.
    """
    lines = []
    for row, own in differences.items():
        for key, what in SENTENCES.items():
            if key not in own:
                continue
            found = own[key]
            interval = f'[{found.low:+.4f}, {found.high:+.4f}]'
            if found.low == found.high == 0:
                lines.append(f'{row}: {what} equals that of {baseline}')
            elif found.low <= 0 <= found.high:
                lines.append(f'{row}: {what} {found.value:+.4f} {interval}, within noise')
            else:
                verb = 'drops' if found.value < 0 else 'gains'
                lines.append(f'{row}: {what} {verb} by {abs(found.value):.4f} {interval}')
    return ''.join(f'{line}\n' for line in lines) + ('\n' if lines else '')


def _check_arguments(args: argparse.Namespace) -> None:
    check_writable(args.json)
    if args.data is None and args.captions is None:
        raise ValueError('expected --data FOLDER or --captions JSON (or both), got neither')
    if (args.captions is None) != (args.image_root is None):
        raise ValueError('expected --captions and --image-root together, got one of them')
    if args.data is None and args.class_names is not None:
        raise ValueError('--class-names: expected with --data, got without')
    if args.batch_size < 1 or args.num_workers < 0:
        raise ValueError(
            f'expected --batch-size >= 1 and --num-workers >= 0, got {args.batch_size} and '
            f'{args.num_workers}'
        )
