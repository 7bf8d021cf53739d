"""Options of ``python -m refineclip app``, what they build, and the server."""

from __future__ import annotations

import argparse
import errno
import importlib.util
import os
import socket
import sys
import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..draw import add_text_tower_arguments
from ..evaluate.common import (
    add_encoder_arguments,
    parse_rows,
    printable,
    quiet_logging,
)
from ..help_text import command_parser

if TYPE_CHECKING:
    from PIL import Image

    from .page import Page

DEMO = Path('work_dirs/demo')
PORT = 7860


def make_parser() -> argparse.ArgumentParser:
    """Build the parser of the command."""
    parser = command_parser(
        'app',
        'Open a page on this machine: click a token of an image and see its similarity map in '
        'every row of encoders, name pixels by words, detect. Without --model it shows the drawn '
        'world, which says nothing about real images: its tiny CLIP and rows refined from it, '
        'those of `python -m refineclip demo` where it was run.',
        '--model ViT-B-16-quickgelu --models frozen=openai refined=FILE --images photos/',
        '--port 7861 --no-browser',
    )
    add_encoder_arguments(parser, required=False)
    images = parser.add_argument_group('images')
    images.add_argument(
        '--images', nargs='+', type=Path, metavar='PATH', help='samples: files, or folders'
    )
    images.add_argument(
        '--num-images', type=int, default=12, metavar='N', help='samples (default: 12)'
    )
    images.add_argument(
        '--image-size',
        type=int,
        help='pixels of the longer side (default: what the tower was trained with)',
    )
    add_text_tower_arguments(parser.add_argument_group('texts'))
    parser.set_defaults(templates=None)
    parser.add_argument(
        '--detector',
        nargs=2,
        type=Path,
        action='append',
        default=[],
        metavar=('CONFIG', 'CHECKPOINT'),
        help='an F-ViT detector; may be given several times',
    )
    parser.add_argument(
        '--demo', type=Path, default=DEMO, metavar='DIR', help=f'of the demo (default: {DEMO})'
    )
    server = parser.add_argument_group('server')
    server.add_argument(
        '--host',
        default='127.0.0.1',
        metavar='ADDRESS',
        help='others than the default let other machines in, without a password',
    )
    server.add_argument(
        '--port', type=int, default=PORT, help=f'0 takes a free one (default: {PORT})'
    )
    server.add_argument('--no-browser', action='store_true', help='open none')
    return parser


def check_args(args: argparse.Namespace) -> None:
    """Refuse what cannot be served, before any network is built; settles the port.

    Raises:
        ValueError: If options do not fit together, or the port is taken.
        ModuleNotFoundError: If gradio is not installed.
    """
    if importlib.util.find_spec('gradio') is None:
        raise ModuleNotFoundError(
            "expected gradio for the page, got none; pip install 'refineclip-mm[app]' (from a "
            "checkout: pip install '.[app]')"
        )
    if (args.model is None) != (args.models is None):
        raise ValueError('expected --model and --models, or neither of them, got one')
    if args.models is not None:
        parse_rows(args.models, None)
    if args.num_images < 0:
        raise ValueError(f'--num-images: expected 0 or more, got {args.num_images}')
    if not 0 <= args.port < 65536:
        raise ValueError(f'--port: expected a port in [0, 65535], got {args.port}')
    args.port = free_port(args.host, args.port)


def free_port(host: str, port: int) -> int:
    """Hold a port for a moment and return its number; 0 stands for any that is free.

    Raises:
        ValueError: If it is taken, or the address is not of this machine.
    """
    try:
        [(family, kind, _, _, address), *_] = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM
        )
        with socket.socket(family, kind) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(address)
            return int(probe.getsockname()[1])
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise ValueError(
                f'--port: expected a free port, got {port}, which is in use; name another, or 0 '
                'for any that is free'
            ) from error
        if error.errno == errno.EACCES:
            raise ValueError(
                f'--port: expected a port that may be opened, got {port}; take one from 1024 on'
            ) from error
        raise ValueError(
            f'--host: expected an address of this machine, got {host!r}: {error}'
        ) from error


def build_page(args: argparse.Namespace) -> Page:
    """Load rows, words and samples.

    Raises:
        ValueError: If no row can be loaded, or a size is no multiple of the patch.
        FileNotFoundError: If images or a detector are not there.
    """
    from refineclip.evaluation.encoders import load_encoders

    from . import world
    from .detect import Detectors
    from .link import View
    from .maps import DenseMaps
    from .page import Page
    from .workbench import Workbench

    drawn = args.model is None
    rows = world.rows(args.demo) if drawn else parse_rows(args.models, None)
    args.model = world.MODEL if drawn else args.model
    args.templates = args.templates or (world.TEMPLATES if drawn else 'vild')
    files = {path.parent.name or str(path): (config, path) for config, path in args.detector}
    detectors = Detectors({**(world.detectors(args.demo) if drawn else {}), **files}, args.device)
    errors: dict[str, Exception] = {}
    encoders = load_encoders(
        rows,
        args.model,
        args.dense_mode,
        refiner_input=args.refiner_input,
        seed=args.seed,
        device=args.device,
        failed=errors,
    )
    for row, error in errors.items():
        sys.stderr.write(f'warning: row {printable(row)}: {printable(error)}\n')
    if not encoders:
        raise next(iter(errors.values()))
    args.models = [f'{row}={rows[row]}' for row in encoders]
    visual = next((one.visual for one in encoders.values() if hasattr(one, 'visual')), None)
    patch = int((visual or next(iter(encoders.values()))).patch_size)
    size = args.image_size or (
        world.IMAGE_SIZE if drawn else visual.native_size[0] if visual else 14 * patch
    )
    samples = world.samples(args.num_images) if drawn and not args.images else read_samples(args)
    default = View(tuple(rows), image=0 if samples else None, mode=args.dense_mode)
    if drawn:
        default = replace(default, words=world.first_words())
        if samples and not args.images:
            default = replace(default, point=world.first_point())
    note = 'This world is drawn and says nothing about real images.' if drawn else ''
    bench = Workbench(
        DenseMaps(encoders, args.device),
        {row: str(error) for row, error in errors.items()},
        load_words(args),
        detectors,
    )
    choices = world.WORDS if drawn else ()
    blocks = 0 if visual is None else visual.num_blocks
    return Page(bench, samples, default, size, patch, blocks, note, choices)


def read_samples(args: argparse.Namespace) -> list[tuple[str, Image.Image]]:
    """Read the first samples that can be used; others are told."""
    from refineclip.datasets.image_inputs import find_inputs

    from .pictures import read_bounded

    found: list[tuple[str, Any]] = []
    for one in find_inputs(args.images) if args.images else []:
        if len(found) == args.num_images:
            break
        try:
            found.append((str(one.name), read_bounded(one.path, min_size=1)))
        except ValueError as error:
            sys.stderr.write(f'warning: skipped {printable(error)}\n')
    return found


def load_words(args: argparse.Namespace) -> Any:
    """The text tower, or a sentence on why there is none."""
    from refineclip.encoders.build import build_clip
    from refineclip.encoders.text.embedder import TextEmbedder
    from refineclip.encoders.text.text_head import TextHead

    from ..draw_figures import text_weights
    from .words import Words

    try:
        head = None if args.text_head is None else TextHead.load(args.text_head)
        clip = build_clip(args.model, text_weights(args)).eval()
        if clip.text is not None:
            clip.text.to(args.device)
        return Words(TextEmbedder(clip, args.templates), head)
    except (ValueError, OSError, ModuleNotFoundError) as error:
        return f'No words: {error}'


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until it is interrupted; returns 0, or 2 for wrong input."""
    # Before gradio is imported, which asks its makers' server for news.
    os.environ['GRADIO_ANALYTICS_ENABLED'] = 'False'
    parser = make_parser()
    args = parser.parse_args(argv)
    try:
        check_args(args)
        quiet_logging()
        sys.stderr.write('loading encoders\n')
        page = build_page(args)
        from .server import launch

        blocks, url = launch(page, args.host, args.port, not args.no_browser)
    except (ValueError, TypeError, OSError, ModuleNotFoundError) as error:
        # Every one of them says what was expected, what came and what to do.
        sys.stderr.write(f'{parser.prog}: error: {error}\n')
        return 2
    sys.stdout.write(f'{url}\nCtrl-C ends it\n')
    sys.stdout.flush()
    try:
        threading.Event().wait()
    except KeyboardInterrupt:
        sys.stderr.write('\n')
    finally:
        blocks.close(verbose=False)
    return 0


if __name__ == '__main__':
    sys.exit(main())
