"""``python -m refineclip detect``: boxes with names and scores of any words, and pictures."""

from __future__ import annotations

import argparse
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path

from .config_options import add_config_options, override, read_config_file
from .evaluate.common import check_writable, printable, quiet_logging, usable_device
from .help_text import command_parser


def make_parser() -> argparse.ArgumentParser:
    """Build the parser of the command."""
    parser = command_parser(
        'detect',
        'Detect what words name, in images or folders: pictures into OUT/vis, boxes '
        'with names and scores into OUT/preds/*.json. Folders are searched with their '
        'sub-folders; files that cannot be read are named and skipped (exit status 1).',
        'configs/microworld/fvit_microworld.py work_dirs/fvit_microworld/iter_500.pth '
        'data/microworld/val --texts "fish . boat . sea" --out found',
    )
    parser.add_argument('config', type=Path, help='config of an F-ViT detector')
    parser.add_argument('checkpoint', type=Path, help='what its training saved')
    parser.add_argument('images', nargs='+', type=Path, help='images, or folders of images')
    words = parser.add_mutually_exclusive_group()
    words.add_argument('--texts', metavar='"A . B"', help="names, ' . ' between them")
    words.add_argument(
        '--vocabulary',
        type=Path,
        metavar='FILE',
        help="a name a line, synonyms after ';' (default: the names of the config)",
    )
    parser.add_argument('--out', type=Path, required=True, metavar='DIR', help='folder to write')
    parser.add_argument(
        '--score-thr', type=float, default=0.3, help='least score that is drawn (default: 0.3)'
    )
    parser.add_argument('--batch-size', type=int, default=1, help='default: 1')
    parser.add_argument('--device', type=usable_device, help='default: a GPU where there is one')
    add_config_options(parser, 'model.roi_head.score_fusion.beta=0.6')
    return parser


def detect(args: argparse.Namespace) -> int:
    """Detect and write; returns the number of images that could not be read.

    Raises:
        ValueError: Names, options or weights that do not fit.
        FileNotFoundError: A file does not exist.
    """
    from refineclip.datasets.image_inputs import find_inputs
    from refineclip.datasets.vocabularies import parse_texts, read_vocabulary
    from refineclip.detection.inferencer import OVDetInferencer

    texts: tuple[str, ...] | None = None
    if args.texts is not None:
        texts = parse_texts(args.texts)
    elif args.vocabulary is not None:
        texts = read_vocabulary(args.vocabulary)
    if args.batch_size < 1:
        raise ValueError(f'--batch-size: expected 1 or more, got {args.batch_size}')
    if not 0 <= args.score_thr <= 1:
        raise ValueError(f'--score-thr: expected a score in [0, 1], got {args.score_thr}')
    check_writable(args.out, '--out', folder=True)
    images = find_inputs(args.images, args.out)
    config = read_config_file(args.config, ('model', 'test_dataloader'))
    override(config, args.cfg_options)
    inferencer = OVDetInferencer(config, args.checkpoint, texts, device=args.device)
    result = inferencer(
        args.images,
        batch_size=args.batch_size,
        out_dir=str(args.out),
        no_save_pred=False,
        pred_score_thr=args.score_thr,
        on_bad_image='skip',
    )
    for image, found in zip(result['img_paths'], result['predictions'], strict=True):
        kept = [
            f'{name} {score:.2f}'
            for name, score in zip(found['names'], found['scores'], strict=True)
            if score >= args.score_thr
        ]
        text = ', '.join(kept) or 'nothing above the threshold'
        sys.stdout.write(f'{printable(image)}: {text}\n')
    bad = result['bad_images']
    for path, reason in bad:
        sys.stderr.write(f'warning: skipped {printable(path)}: {reason}\n')
    if bad:
        sys.stderr.write(f'warning: {len(bad)} of {len(images)} images were skipped\n')
    return len(bad)


def main(argv: Sequence[str] | None = None) -> int:
    """Detect; returns 0, 1 if images were skipped, or 2 for wrong input."""
    parser = make_parser()
    args = parser.parse_args(argv)
    # mmengine says so of every box that touches the border of its image.
    warnings.filterwarnings('ignore', message='Warning: The .* is out of bounds')
    try:
        quiet_logging()
        num_bad = detect(args)
    except ModuleNotFoundError as error:
        sys.stderr.write(f'{parser.prog}: error: {error}; see python -m refineclip doctor\n')
        return 2
    except (ValueError, TypeError, OSError) as error:
        # Every one of them says what was expected, what came and what to do.
        sys.stderr.write(f'{parser.prog}: error: {error}\n')
        return 2
    sys.stdout.write(f'{args.out}\n')
    return 1 if num_bad else 0


if __name__ == '__main__':
    sys.exit(main())
