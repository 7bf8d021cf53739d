"""``python -m refineclip evaluate KIND``: measure side by side."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

from ..columns import align
from ..help_text import command_parser
from .processes import joined_by_launcher, run_in_processes
from .spatial import EXAMPLE

# Each is a module ``refineclip.commands.evaluate.NAME`` with ``add_arguments(parser)``,
# ``run(args)`` and an ``EXAMPLE`` of its arguments, and ``NOTES`` where its help needs them.
KINDS = {
    'regions': 'name ground-truth regions of COCO panoptic by class names: boxes, masks, crops',
    'spatial': 'spatial awareness of dense maps without language, on COCO panoptic',
    'image': 'zero-shot classification and retrieval: what refinement costs at image level',
    'segmentation': 'open-vocabulary segmentation on mmseg: many benchmarks, one table',
    'synonyms': 'a detector tested with each class name replaced by a synonym',
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one kind of evaluation; returns its exit status, 2 for wrong input."""
    argv = list(sys.argv[1:] if argv is None else argv)
    lines = align(list(KINDS.items()), indent='  ')
    parser = command_parser(
        'evaluate',
        f'Measure encoders or vocabularies side by side.\n\nkinds:\n{lines}',
        f'spatial {EXAMPLE}',
        notes='`python -m refineclip evaluate KIND --help` lists the options of a kind.',
    )
    parser.add_argument('kind', nargs='?', choices=tuple(KINDS), metavar='KIND')
    kind = parser.parse_args(argv[:1]).kind
    if kind is None:
        parser.print_help(sys.stderr)
        return 2
    parser = make_parser(kind)
    args = parser.parse_args(argv[1:])

    from refineclip.datasets.image_io import BadImageError

    try:
        with joined_by_launcher(args):
            if args.processes == 1:
                return run_kind(kind, args)
            return run_in_processes(kind, argv[1:], args)
    except (ValueError, OSError, BadImageError) as error:
        # Every one of them says what was expected, what came and what to do.
        sys.stderr.write(f'{parser.prog}: error: {error}\n')
        return 2


def make_parser(kind: str) -> argparse.ArgumentParser:
    """Build the parser of a kind."""
    module = importlib.import_module(f'refineclip.commands.evaluate.{kind}')
    parser = command_parser(
        f'evaluate {kind}', KINDS[kind], module.EXAMPLE, notes=getattr(module, 'NOTES', '')
    )
    module.add_arguments(parser)
    parser.add_argument(
        '--processes',
        type=int,
        default=1,
        metavar='N',
        help='share the images between N processes of this machine, on a GPU each or on the CPU '
        '(default: 1; under torchrun those that it started)',
    )
    return parser


def run_kind(kind: str, args: argparse.Namespace) -> int:
    """Evaluate; returns the exit status."""
    return int(importlib.import_module(f'refineclip.commands.evaluate.{kind}').run(args))


if __name__ == '__main__':
    sys.exit(main())
