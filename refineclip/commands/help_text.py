"""Help of commands: paragraphs as wide as the terminal, and at the end examples that tests run."""

from __future__ import annotations

import argparse
import shutil
import textwrap


def command_parser(
    command: str, description: str, *examples: str, notes: str = ''
) -> argparse.ArgumentParser:
    """Make the parser of ``python -m refineclip COMMAND``.

    Args:
        command: Name of the command, with its kind where the kind has a parser of its own.
        description: Paragraphs; one of several lines stays as it is laid out.
        examples: Arguments of the command as a shell reads them; shown last, the first of them
            also by ``python -m refineclip``.
        notes: Paragraphs between the options and the examples.
    """
    program = f'python -m refineclip {command}'
    lines = [f'  $ {program} {one}'.rstrip() for one in examples]
    title = 'example:' if len(lines) == 1 else 'examples:'
    return argparse.ArgumentParser(
        prog=program,
        description=wrapped(description),
        epilog='\n'.join([*([wrapped(notes), ''] if notes else []), title, *lines]),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )


def wrapped(text: str) -> str:
    """Break the paragraphs that are one long line."""
    width = shutil.get_terminal_size().columns - 2
    paragraphs = text.strip().split('\n\n')
    return '\n\n'.join(one if '\n' in one else textwrap.fill(one, width) for one in paragraphs)
