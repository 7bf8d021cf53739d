"""``python -m refineclip evaluate {regions,spatial,image,synonyms}``: measure side by side."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence

from ..columns import align
from ..help_text import command_parser
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
    module = importlib.import_module(f'refineclip.commands.evaluate.{kind}')
    parser = command_parser(
        f'evaluate {kind}', KINDS[kind], module.EXAMPLE, notes=getattr(module, 'NOTES', '')
    )
    module.add_arguments(parser)
    args = parser.parse_args(argv[1:])

    from refineclip.datasets.image_io import BadImageError

    try:
        return int(module.run(args))
    except (ValueError, OSError, BadImageError) as error:
        # Every one of them says what was expected, what came and what to do.
        sys.stderr.write(f'{parser.prog}: error: {error}\n')
        return 2


if __name__ == '__main__':
    sys.exit(main())
