"""``python -m refineclip segment``: every pixel named by any words, as pictures with a legend."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .config_options import read_config_file
from .evaluate.common import check_writable, printable, progress, quiet_logging, usable_device
from .help_text import command_parser

if TYPE_CHECKING:
    import numpy as np
    from mmseg.models.segmentors.base import BaseSegmentor

    from refineclip.datasets.image_inputs import NamedImage

NUM_SHOWN = 5


def make_parser() -> argparse.ArgumentParser:
    """Build the parser of the command."""
    parser = command_parser(
        'segment',
        'Name every pixel of images by words: pictures with a legend into OUT/vis, '
        'label maps (indices into the words) into OUT/labels. Folders are searched with their '
        'sub-folders; files that cannot be read are named and skipped (exit status 1).',
        'data/microworld/val --texts "fish . boat . sea" --model microworld-clip '
        '--pretrained shipped --templates "a {}" --short-side 128 --window 0 0 --out segmented',
    )
    parser.add_argument('images', nargs='+', type=Path, help='images, or folders of images')
    parser.add_argument('--out', type=Path, required=True, metavar='DIR', help='folder to write')
    words = parser.add_mutually_exclusive_group(required=True)
    words.add_argument('--texts', metavar='"A . B"', help="names, ' . ' between them")
    words.add_argument(
        '--vocabulary',
        type=Path,
        metavar='FILE',
        help="a name a line, synonyms after ';'; or a published class list, a JSON list of ids and "
        'names, whose names may be equal',
    )
    model = parser.add_argument_group('model: a CLIP without training, or a config')
    model.add_argument('--model', help="architecture, e.g. 'ViT-B-16', 'local-dir:...'")
    model.add_argument('--pretrained', metavar='WEIGHTS', help='tag or file of both its towers')
    model.add_argument('--config', type=Path, metavar='FILE', help='config of a segmentor')
    model.add_argument(
        '--checkpoint',
        type=Path,
        metavar='FILE',
        help='refined encoder (refined_*.pth), or what the training of --config saved',
    )
    model.add_argument(
        '--device', type=usable_device, default='cpu', help='torch device (default: cpu)'
    )
    free = parser.add_argument_group('without a config')
    free.add_argument('--dense-mode', help="last block of dense maps (default: 'value')")
    free.add_argument(
        '--templates',
        help="prompts: vild, photo, imagenet, or one of your own, 'a {}' (default: vild)",
    )
    free.add_argument('--short-side', type=int, help='pixels to resize to (default: 336)')
    free.add_argument(
        '--window',
        nargs=2,
        type=int,
        metavar=('SIDE', 'STRIDE'),
        help='pixels of sliding windows; 0 0 for the whole image (default: 224 112)',
    )
    free.add_argument(
        '--background',
        metavar='"A . B"',
        help="what the name 'background' among the texts looks like, in words",
    )
    free.add_argument(
        '--prob-thd',
        type=float,
        help="probability below which a pixel is 'background' (default: 0, off)",
    )
    return parser


FREE = ('dense_mode', 'templates', 'short_side', 'window', 'background', 'prob_thd')


def check_args(args: argparse.Namespace) -> None:
    """Refuse what cannot be done, before anything is built.

    Raises:
        ValueError: If options do not fit together.
    """
    if (args.model is None) == (args.config is None):
        raise ValueError('expected --model (with --pretrained) or --config, one of them')
    if args.model is not None and args.pretrained is None:
        raise ValueError('expected --pretrained with --model, got none: it would be random')
    if args.config is not None:
        given = [name for name in ('pretrained', *FREE) if getattr(args, name) is not None]
        if given:
            flags = ', '.join(f'--{name.replace("_", "-")}' for name in given)
            raise ValueError(f'expected {flags} in the config, got beside it')
    check_writable(args.out, '--out', folder=True)
    if args.short_side is not None and args.short_side < 1:
        raise ValueError(f'--short-side: expected pixels, got {args.short_side}')


def build(
    args: argparse.Namespace, words: Sequence[str] | Path
) -> tuple[BaseSegmentor, list[dict[str, Any]]]:
    """Build the model for words or a file of them, and what brings images into it."""
    from refineclip.datasets.vocabularies import parse_texts
    from refineclip.segmentation.inference import (
        build_text_segmentor,
        default_pipeline,
        load_segmentor,
    )

    if args.config is not None:
        config = read_config_file(args.config, ('model', 'test_dataloader'))
        model, pipeline = load_segmentor(config, args.checkpoint, words, args.device)
        if args.checkpoint is None and config.model.type != 'TextSegmentor':
            raise ValueError(
                f'expected --checkpoint, got none: the heads of {config.model.type} would be random'
            )
        return model, pipeline
    kwargs: dict[str, Any] = {}
    if args.window is not None:
        side, stride = args.window
        slide = dict(mode='slide', crop_size=side, stride=stride)
        kwargs['test_cfg'] = dict(mode='whole') if side == stride == 0 else slide
    if args.background is not None:
        kwargs['background_names'] = parse_texts(args.background)
    if args.prob_thd is not None:
        kwargs['prob_thd'] = args.prob_thd
    model = build_text_segmentor(
        args.model,
        args.pretrained,
        words,
        checkpoint=args.checkpoint,
        dense_mode=args.dense_mode or 'value',
        templates=args.templates or 'vild',
        device=args.device,
        **kwargs,
    )
    return model, default_pipeline(args.short_side or 336)


def segment(args: argparse.Namespace) -> int:
    """Segment and write; returns the number of images that could not be read.

    Raises:
        ValueError: Names, options or weights that do not fit.
        FileNotFoundError: A file does not exist.
    """
    from refineclip.datasets.image_inputs import find_inputs
    from refineclip.datasets.image_io import BadImageError, read_image
    from refineclip.datasets.vocabularies import numbered_titles, parse_texts, read_vocabulary

    check_args(args)
    names = parse_texts(args.texts) if args.texts is not None else read_vocabulary(args.vocabulary)
    inputs = find_inputs(args.images, args.out)
    try:
        from refineclip.segmentation.inference import segment_image
    except ImportError as error:
        raise ValueError(
            f'expected mmseg with mmcv, got {error}; `python -m refineclip doctor` says what to '
            'install'
        ) from error
    # The file itself: names of a published class list may be equal, a list's may not.
    model, pipeline = build(args, names if args.vocabulary is None else args.vocabulary)
    titles = numbered_titles(names)
    num_bad = 0
    for one in progress(f'{len(inputs)} images')(inputs):
        try:
            picture = read_image(one.path, min_size=1)
        except BadImageError as error:
            sys.stderr.write(f'warning: skipped {printable(error)}\n')
            num_bad += 1
            continue
        labels = segment_image(model, picture, pipeline, str(one.path))
        write_results(picture, labels, titles, args.out, one)
        sys.stdout.write(f'{printable(one.path)}: {describe(labels, titles)}\n')
    if num_bad:
        sys.stderr.write(f'warning: {num_bad} of {len(inputs)} images were skipped\n')
    return num_bad


def write_results(
    picture: Any, labels: np.ndarray, titles: Sequence[str], out: Path, image: NamedImage
) -> None:
    """Write the picture with its legend, and the label map (8 bits up to 256 words, else 16)."""
    import numpy as np
    from PIL import Image

    from refineclip.visualization.segmentation_maps import segmentation_figure
    from refineclip.visualization.style import save_figure

    figure = segmentation_figure(
        [picture],
        {'by words': [labels]},
        titles,
        caption=f'Each pixel shows one of {len(titles)} words.',
        colours=word_colours(len(titles)),
    )
    save_figure(figure, image.result(out / 'vis', '.png'))
    kind = np.uint8 if len(titles) <= 256 else np.uint16
    Image.fromarray(labels.astype(kind)).save(image.result(out / 'labels', '.png'))


def word_colours(count: int) -> dict[int, str]:
    """Colours by position in the vocabulary, so that a word looks alike in all pictures."""
    from colorsys import hsv_to_rgb

    from matplotlib.colors import to_hex

    from refineclip.visualization.style import AREAS

    # Beyond the colours that stay apart: hues by the golden ratio, never close to the last ones.
    more = [
        to_hex(hsv_to_rgb(0.618 * index % 1, (0.45, 0.7, 0.95)[index % 3], 0.85))
        for index in range(count - len(AREAS))
    ]
    return dict(enumerate([*AREAS[:count], *more]))


def describe(labels: np.ndarray, titles: Sequence[str]) -> str:
    """Largest areas of an image with their shares."""
    import numpy as np

    share = np.bincount(labels.ravel(), minlength=len(titles)) / labels.size
    order = np.argsort(-share, kind='stable')[:NUM_SHOWN]
    return ', '.join(f'{titles[index]} {share[index]:.0%}' for index in order if share[index] > 0)


def main(argv: Sequence[str] | None = None) -> int:
    """Segment; returns 0, 1 if images were skipped, or 2 for wrong input."""
    parser = make_parser()
    args = parser.parse_args(argv)
    try:
        quiet_logging()
        num_bad = segment(args)
    except (ValueError, TypeError, OSError, ModuleNotFoundError) as error:
        # Every one of them says what was expected, what came and what to do.
        sys.stderr.write(f'{parser.prog}: error: {error}\n')
        return 2
    sys.stdout.write(f'{args.out}\n')
    return 1 if num_bad else 0


if __name__ == '__main__':
    sys.exit(main())
