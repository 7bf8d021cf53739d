"""``python -m refineclip draw``: figures of dense maps of encoders side by side, and a report."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .columns import align
from .evaluate.common import (
    add_encoder_arguments,
    check_writable,
    parse_rows,
    printable,
    quiet_logging,
)
from .help_text import command_parser

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from .draw_figures import Drawing

KINDS = {
    'pca': 'dense maps as colours, one basis for all models (needs --images)',
    'affinity': 'cosine of all tokens to a chosen one (needs --images)',
    'segmentation': 'each pixel named by the most similar of --texts (needs --images)',
    'tsne': 'ground-truth objects in the plane, coloured by class (needs --data)',
    'curve': 'training-free refining of the first model over contexts (needs --data)',
    'report': 'all of them that the input allows, in one html file',
}
IMAGE_KINDS = ('pca', 'affinity', 'segmentation')


def make_parser() -> argparse.ArgumentParser:
    """Build the parser of the command."""
    lines = align(list(KINDS.items()), indent='  ')
    rows = '--model microworld-clip --models frozen=shipped random=random'
    parser = command_parser(
        'draw',
        f'Draw dense maps of encoders side by side.\n\nkinds:\n{lines}',
        f'pca {rows} --images data/microworld/val --num-images 2 --out pca.png',
        f'report {rows} --images data/microworld/val --out report.html',
    )
    parser.add_argument('kind', choices=tuple(KINDS), metavar='KIND')
    add_encoder_arguments(parser)
    parser.add_argument(
        '--out',
        type=Path,
        required=True,
        metavar='FILE',
        help='.png, .pdf or .svg; .html for report',
    )
    pictures = parser.add_argument_group('images')
    pictures.add_argument(
        '--images', nargs='+', type=Path, metavar='PATH', help='files, or folders of images'
    )
    pictures.add_argument(
        '--num-images',
        type=int,
        default=4,
        metavar='N',
        help='draw the first N that can be read (default: 4)',
    )
    pictures.add_argument(
        '--image-size',
        type=int,
        help='pixels of the longer side, and of the square of labelled images (default: what the '
        'tower was trained with)',
    )
    pictures.add_argument(
        '--token',
        nargs=2,
        type=float,
        default=(0.5, 0.5),
        metavar=('X', 'Y'),
        help='point in [0, 1] of the image from its upper left corner (default: 0.5 0.5)',
    )
    pictures.add_argument(
        '--token-of',
        type=int,
        metavar='N',
        help='compare all images with the token of image N, from 1 (default: each with its own)',
    )
    pictures.add_argument(
        '--own-scale',
        action='store_true',
        help='colours of each model by itself: more contrast, but models do not compare',
    )
    _add_text_arguments(parser)
    _add_data_arguments(parser)
    return parser


def _add_text_arguments(parser: argparse.ArgumentParser) -> None:
    text = parser.add_argument_group('texts')
    text.add_argument('--texts', metavar='"A . B"', help="names, ' . ' between them")
    text.add_argument(
        '--synonyms',
        choices=('mean', 'max'),
        default='mean',
        help="texts of one name, between ';': their mean, or the best of them (default: mean)",
    )
    text.add_argument(
        '--prob-thd',
        type=float,
        default=0.0,
        help='probability below which a pixel gets no name (default: 0, off)',
    )
    text.add_argument(
        '--text-embeddings', type=Path, metavar='FILE', help="default: the model's own text tower"
    )
    add_text_tower_arguments(text)


def add_text_tower_arguments(text: argparse._ArgumentGroup) -> None:
    """Add what says how words become embeddings."""
    text.add_argument(
        '--text-pretrained', metavar='WEIGHTS', help='default: those of the first row that has any'
    )
    text.add_argument(
        '--text-head', type=Path, metavar='FILE', help='for towers without text, see fit_text_head'
    )
    text.add_argument(
        '--templates',
        default='vild',
        metavar='PROMPT',
        help='vild, photo, imagenet, or a prompt of your own with {} in it (default: vild)',
    )


def _add_data_arguments(parser: argparse.ArgumentParser) -> None:
    data = parser.add_argument_group('labelled images (COCO panoptic)')
    data.add_argument('--data', type=Path, metavar='COCO_ROOT')
    data.add_argument('--split', default='val2017', help='default: val2017')
    data.add_argument('--limit', type=int, metavar='N', help='use the first N labelled images')
    data.add_argument(
        '--pooling', choices=('masks', 'boxes'), default='masks', help='default: masks'
    )
    data.add_argument(
        '--measures',
        nargs='+',
        default=('knn', 'imk'),
        metavar='NAME',
        help='of the curve: auc imk gk knn ridge (default: knn imk)',
    )
    data.add_argument(
        '--counts',
        nargs='+',
        type=int,
        default=(1, 2, 4, 8, 16),
        metavar='N',
        help='numbers of contexts (default: 1 2 4 8 16)',
    )
    data.add_argument('--draws', type=int, default=3, help='repetitions of a point (default: 3)')
    # What the evaluation's own preparation reads beside these.
    parser.set_defaults(compare=None, json=None, resize='squash')


def check_args(args: argparse.Namespace) -> None:
    """Refuse what cannot be drawn, before any network is built.

    Raises:
        ValueError: If an input is missing or the output cannot be written.
    """
    from refineclip.datasets.vocabularies import parse_texts

    parse_rows(args.models, None)
    suffixes = ('.html',) if args.kind == 'report' else ('.png', '.pdf', '.svg')
    if args.out.suffix.lower() not in suffixes:
        raise ValueError(f'--out: expected a name that ends in one of {suffixes}, got {args.out}')
    check_writable(args.out, '--out')
    if args.kind in IMAGE_KINDS and not args.images:
        raise ValueError(f'--images: expected files or a folder for {args.kind}, got none')
    if args.kind in ('tsne', 'curve') and args.data is None:
        raise ValueError(f'--data: expected a folder of labelled images for {args.kind}, got none')
    if args.kind == 'segmentation' and args.texts is None:
        raise ValueError('--texts: expected names, as in "zebra . traffic light", got none')
    if args.texts is not None:
        parse_texts(args.texts)
    if args.kind == 'report' and not args.images and args.data is None:
        raise ValueError('expected --images, --data or both for a report, got neither')
    if args.num_images < 1:
        raise ValueError(f'--num-images: expected 1 or more, got {args.num_images}')
    if not all(0 <= value <= 1 for value in args.token):
        raise ValueError(f'--token: expected X and Y in [0, 1], got {list(args.token)}')
    if args.token_of is not None and not 1 <= args.token_of <= args.num_images:
        raise ValueError(
            f'--token-of: expected an image from 1 to {args.num_images}, got {args.token_of}'
        )
    if not 0 <= args.prob_thd < 1:
        raise ValueError(f'--prob-thd: expected a probability in [0, 1), got {args.prob_thd}')


def main(argv: Sequence[str] | None = None) -> int:
    """Draw one kind of figure; returns 0, 1 if images were skipped, or 2 for wrong input."""
    parser = make_parser()
    args = parser.parse_args(argv)
    try:
        check_args(args)
        quiet_logging()
        from .draw_figures import Drawing

        drawing = Drawing(args)
        if args.kind == 'report':
            path = drawing.report()
        else:
            from refineclip.visualization import save_figure

            path = save_figure(figures_of(drawing)[args.kind](), args.out)
    except (ValueError, TypeError, OSError, ModuleNotFoundError) as error:
        # Every one of them says what was expected, what came and what to do.
        sys.stderr.write(f'{parser.prog}: error: {error}\n')
        return 2
    for bad in drawing.bad_images:
        sys.stderr.write(f'warning: skipped {printable(bad)}\n')
    if drawing.bad_images:
        sys.stderr.write(f'warning: {len(drawing.bad_images)} images were skipped\n')
    sys.stdout.write(f'{path}\n')
    return 1 if drawing.bad_images else 0


def figures_of(drawing: Drawing) -> dict[str, Callable[[], Figure]]:
    """Kind -> function that draws it."""
    return {kind: getattr(drawing, kind) for kind in KINDS if kind != 'report'}


if __name__ == '__main__':
    sys.exit(main())
