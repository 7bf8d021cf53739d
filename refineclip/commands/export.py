"""``python -m refineclip export``: an encoder, detector or segmentor for other programs to load."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refineclip.export.errors import ExportMismatchError

from .columns import align
from .config_options import read_config_file
from .evaluate.common import check_writable, environment, quiet_logging
from .help_text import command_parser

if TYPE_CHECKING:
    from PIL import Image

    from refineclip.export.compare import Comparison
    from refineclip.export.subject import Subject

FORMATS = {
    'open-clip': "a folder for open_clip: create_model_and_transforms('local-dir:OUT')",
    'hf': 'a folder for transformers: CLIPModel, SiglipModel or Dinov2Model',
    'timm': "a folder for timm: create_model('local-dir:OUT', pretrained=True)",
    'onnx': 'ONNX graphs: dense image encoder and text tower, or those of --config',
}
LIBRARIES = {'hf': ('transformers',), 'onnx': ('onnx', 'onnxruntime', 'onnxscript')}
Report = tuple['list[Comparison]', 'dict[str, float]']


def make_parser() -> argparse.ArgumentParser:
    """Build the parser of the command."""
    lines = align(list(FORMATS.items()), indent='  ')
    parser = command_parser(
        'export',
        'Write a model as files that other programs load, load them back, and compare. No file '
        f'can run code.\n\nformats:\n{lines}',
        'onnx refined_epoch_6.pth --model ViT-B-16-quickgelu --size 336 --out vit-b16-onnx',
        'open-clip shipped --model microworld-clip --out exported',
    )
    parser.add_argument('format', choices=tuple(FORMATS), metavar='FORMAT')
    parser.add_argument(
        'weights',
        help='tag or file of a library, local-dir:FOLDER, refined_*.pth, a checkpoint of a stage '
        '(the Refiner of stage 1 is folded in), random; with --config, what its training saved',
    )
    parser.add_argument('--out', type=Path, required=True, metavar='DIR', help='folder to write')
    parser.add_argument('--force', action='store_true', help='replace an earlier export')
    parser.add_argument(
        '--model', help="architecture, e.g. 'ViT-B-16-quickgelu', 'timm/NAME', 'local-dir:...'"
    )
    parser.add_argument(
        '--text-pretrained',
        metavar='WEIGHTS',
        help='tag or file of the text tower (default: that of the weights, if they have one)',
    )
    parser.add_argument('--dense-mode', help="last block of dense maps (default: 'value')")
    parser.add_argument(
        '--refiner-input',
        choices=('block', 'output'),
        default='block',
        help='refiner.input that a stage-1 checkpoint was trained with (default: block)',
    )
    parser.add_argument(
        '--image', type=Path, metavar='FILE', help='photo to compare on (default: a drawn one)'
    )
    parser.add_argument(
        '--half', action='store_true', help='round weights to float16 (open-clip only)'
    )
    graphs = parser.add_argument_group('onnx')
    graphs.add_argument(
        '--size',
        nargs='+',
        type=image_size,
        default=[],
        metavar='HxW',
        help="pixels, one graph each, e.g. 336 448x672 (default: the tower's own)",
    )
    graphs.add_argument(
        '--graphs',
        nargs='+',
        choices=('image', 'text'),
        help='of an encoder (default: image, and text where the weights have it)',
    )
    graphs.add_argument('--config', type=Path, metavar='FILE', help='of an F-ViT or a CAT-Seg')
    return parser


def image_size(text: str) -> tuple[int, int]:
    """Read ``336`` or ``448x672`` (height x width); a type of arguments."""
    found = re.fullmatch(r'(\d+)(?:x(\d+))?', text)
    if found is None or 0 in (sides := (int(found[1]), int(found[2] or found[1]))):
        raise argparse.ArgumentTypeError(
            f'expected pixels such as 336 or 448x672 (height x width), got {text!r}'
        )
    return sides


def check_args(args: argparse.Namespace) -> None:
    """Refuse what cannot be done, before anything is built.

    Raises:
        ValueError: If options do not fit together, or the folder exists.
    """
    if (args.model is None) == (args.config is None):
        raise ValueError('expected --model, or --config of a detector or segmentor; one of them')
    if args.config is not None:
        own = ('text_pretrained', 'dense_mode', 'graphs')
        given = [name for name in own if getattr(args, name)]
        if args.format != 'onnx' or given:
            what = ', '.join('--' + name.replace('_', '-') for name in given) or args.format
            raise ValueError(f'--config: expected onnx and settings of the config, got {what}')
    if args.format != 'onnx' and (args.size or args.graphs):
        raise ValueError(f'--size, --graphs: expected them with onnx only, got {args.format}')
    if args.half and args.format != 'open-clip':
        raise ValueError(f'--half: expected it with open-clip only, got {args.format}')
    check_writable(args.out, '--out', folder=True)


def check_libraries(name: str) -> None:
    """Refuse a format whose library is not installed.

    Raises:
        ValueError: With the command that installs it.
    """
    from importlib.util import find_spec

    missing = [library for library in LIBRARIES.get(name, ()) if find_spec(library) is None]
    if missing:
        raise ValueError(
            f"expected {' and '.join(missing)} for export, got none; pip install '.[export]'"
        )


def read_picture(path: Path | None) -> Image.Image:
    """The photo to compare on, or a drawn one."""
    from refineclip.datasets.image_io import BadImageError, read_image
    from refineclip.export.compare import drawn_picture

    if path is None:
        return drawn_picture()
    try:
        return read_image(path)
    except BadImageError as error:
        raise ValueError(f'--image: expected a photo, got {error}') from error


def exporter(args: argparse.Namespace) -> Callable[[Path], Report]:
    """Build what is exported; returns a function that fills a folder."""
    picture = read_picture(args.image)
    if args.config is not None:
        return _config_exporter(args, picture)
    subject = _subject(args)
    if args.format == 'onnx':
        from refineclip.export.onnx_encoder import export_onnx

        graphs = args.graphs or ['image'] + ['text'] * (subject.text_clip is not None)
        return lambda folder: export_onnx(
            subject, folder, picture, args.size, 'image' in graphs, 'text' in graphs
        )
    return lambda folder: (_fill(args, subject, folder, picture), {})


def _subject(args: argparse.Namespace) -> Subject:
    from refineclip.export.subject import load_subject

    text = args.format != 'timm' and (args.graphs is None or 'text' in args.graphs)
    return load_subject(
        args.model,
        args.weights,
        args.text_pretrained,
        args.dense_mode or 'value',
        args.refiner_input,
        text,
    )


def _fill(
    args: argparse.Namespace, subject: Subject, folder: Path, picture: Image.Image
) -> list[Comparison]:
    """Fill the folder of a library."""
    if args.format == 'open-clip':
        from refineclip.export.open_clip_folder import export_open_clip

        return export_open_clip(subject, folder, picture, args.half)
    if args.format == 'hf':
        from refineclip.export.transformers_folder import export_transformers

        return export_transformers(subject, folder, picture)
    from refineclip.export.timm_folder import export_timm

    return export_timm(subject, folder, picture)


def _config_exporter(args: argparse.Namespace, picture: Image.Image) -> Callable[[Path], Report]:
    config = read_config_file(args.config, ('model', 'test_dataloader'))
    kind = config.model.type
    if kind == 'FViT':
        from refineclip.export.onnx_detector import export_detector, load_detector

        detector = load_detector(config, args.weights)
        return lambda folder: export_detector(detector, folder, picture, args.size)
    if kind == 'CATSeg':
        from refineclip.export.onnx_segmentor import export_segmentor
        from refineclip.segmentation.inference import load_segmentor

        segmentor, _ = load_segmentor(config, args.weights)
        return lambda folder: export_segmentor(segmentor, folder, picture, args.size)
    raise ValueError(f'--config: expected that of an FViT or a CATSeg, got one of {kind}')


def export(args: argparse.Namespace) -> Report:
    """Build, write, load back and compare.

    Raises:
        ValueError: Names, options or weights that do not fit.
        ExportMismatchError: What was loaded back says something else.
    """
    check_args(args)
    check_libraries(args.format)
    from refineclip.export.compare import require_equal
    from refineclip.export.folder import check_target, write_folder, write_record

    check_target(args.out, args.force)
    fill = exporter(args)

    def write(folder: Path) -> Report:
        comparisons, ratios = fill(folder)
        write_record(folder, _record(args, comparisons, ratios))
        require_equal(comparisons)
        return comparisons, ratios

    return write_folder(args.out, args.force, write)


def _record(
    args: argparse.Namespace, comparisons: list[Comparison], ratios: dict[str, float]
) -> dict[str, Any]:
    asked = {key: value for key, value in vars(args).items() if key not in ('out', 'force')}
    return dict(
        asked={key: str(value) for key, value in asked.items() if value},
        differences={one.what: one.difference for one in comparisons},
        onnxruntime_of_eager=ratios,
        environment=environment(),
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Export; returns 0, 1 if what was written said something else, or 2 for wrong input."""
    parser = make_parser()
    args = parser.parse_args(argv)
    try:
        quiet_logging()
        comparisons, ratios = export(args)
    except (ValueError, TypeError, OSError, ModuleNotFoundError) as error:
        # Every one of them says what was expected, what came and what to do.
        sys.stderr.write(f'{parser.prog}: error: {error}\n')
        return 2
    except ExportMismatchError as error:
        sys.stderr.write(f'{parser.prog}: error: {error}\n')
        return 1
    rows = [(one.what, f'{one.difference:.1e}') for one in comparisons]
    sys.stdout.write(align([('difference / largest value', ''), *rows]) + '\n')
    for name, ratio in ratios.items():
        sys.stdout.write(f'{name}: onnxruntime takes {ratio:.2f} of eager time, on one core\n')
    worst = max(one.difference for one in comparisons)
    sys.stdout.write(f'{args.out}: loaded back, largest difference {worst:.1e}\n')
    return 0


if __name__ == '__main__':
    sys.exit(main())
