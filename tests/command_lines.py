"""Command lines of docs and help, given to the parsers of the commands that they name."""

from __future__ import annotations

import argparse
import importlib
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
# Parsers that only choose the next one.
DISPATCHERS = ('python -m refineclip', 'python -m refineclip evaluate')


class Parsed(BaseException):
    """Thrown out of a program, past its error handling, when its last parser is done."""


def parse(command: Sequence[str]) -> argparse.Namespace:
    """Parse ``python SCRIPT ...`` or ``python -m MODULE ...`` by the program's own parser.

    The program is left before anything else of it runs.

    Raises:
        ValueError: If it refuses the command line, or parses none.
    """
    assert command[0] == 'python', command
    program = command[1:]
    parse_args = argparse.ArgumentParser.parse_args

    def stop(parser: argparse.ArgumentParser, *args, **kwargs) -> argparse.Namespace:
        found = parse_args(parser, *args, **kwargs)
        if parser.prog in DISPATCHERS:
            return found
        raise Parsed(found)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(argparse.ArgumentParser, 'parse_args', stop)
        common = importlib.import_module('refineclip.commands.evaluate.common')
        patch.setattr(common, 'usable_device', str)  # a GPU may be named where there is none
        try:
            run(program, patch)
        except Parsed as parsed:
            return parsed.args[0]
        except SystemExit as refused:
            raise ValueError(f'refused: {" ".join(command)}') from refused
    raise ValueError(f'expected a parser, got none in {" ".join(command)}')


def run(program: Sequence[str], patch: pytest.MonkeyPatch) -> None:
    """Run a script or a module as ``__main__``, in this process."""
    if program[0] == '-m':
        if program[1].split('.')[0] not in ('refineclip', 'benchmarks', 'tests'):
            raise ValueError(f'expected a module of this repository, got {program[1]}')
        patch.setattr(sys, 'argv', list(program[1:]))
        if program[1] in ('refineclip', 'benchmarks'):  # imported already
            importlib.import_module(f'{program[1]}.__main__').main(list(program[2:]))
        else:
            runpy.run_module(program[1], run_name='__main__', alter_sys=True)
        return
    script = ROOT / program[0]
    patch.setattr(sys, 'argv', [str(script), *program[1:]])
    patch.syspath_prepend(str(script.parent))  # as Python does for a script
    runpy.run_path(str(script), run_name='__main__')
