"""``python -m refineclip COMMAND``: there is no console script, because ``mim`` cannot bear one."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

from refineclip import __version__

COMMANDS = {
    'doctor': 'say what is installed, what is missing and the command that mends it',
    'evaluate': 'measure encoders side by side: regions, spatial awareness, image level',
    'draw': 'draw dense maps of encoders side by side, or a report of all figures',
    'detect': 'detect what words name, with an open-vocabulary detector (needs mmdet)',
    'segment': 'name every pixel by words, with or without training (needs mmseg)',
    'plan': 'FLOPs, parameters, memory and time of a config, before it starts',
    'microworld': 'write the drawn data set of the demo, in the COCO layout',
    'demo': 'refine a tiny CLIP on drawn images; table, judged claims, report.html',
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand.

    Args:
        argv: Command line without the program's name; ``sys.argv[1:]`` when None.

    Returns:
        The exit status of the subcommand.
    """
    lines = '\n'.join(f'  {name:10s}{text}' for name, text in COMMANDS.items())
    parser = argparse.ArgumentParser(
        prog='python -m refineclip',
        description=f'refineclip {__version__}\n\ncommands:\n{lines}',
        epilog='`python -m refineclip COMMAND --help` lists the options of a command.',
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('--version', action='version', version=__version__)
    parser.add_argument('command', nargs='?', choices=tuple(COMMANDS), metavar='COMMAND')
    parser.add_argument('arguments', nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.command is None:
        parser.print_help(sys.stderr)
        return 2
    # Imported only now: `doctor` must run where the libraries that `demo` imports are missing.
    module = importlib.import_module(f'refineclip.commands.{args.command}')
    return int(module.main(args.arguments) or 0)


if __name__ == '__main__':
    sys.exit(main())
