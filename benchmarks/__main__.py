"""Measure the package against plain ways of doing the same.

    python -m benchmarks                   every row at full size, about 40 minutes on a core
    python -m benchmarks loader pixels     some rows
    python -m benchmarks --quick           toy sizes, seconds: does everything run?
    python -m benchmarks table             the stored rows as markdown (--write PAGE: into a page)
    python -m benchmarks gpu ...           training steps of a config on a GPU (or, toy, a CPU)
    python -m benchmarks slopes ...        evaluations: time and memory against images
    python -m benchmarks chaos ...         kills, cut files, full disks, hostile inputs
    python -m benchmarks microworld-clip   is the shipped CLIP one that has something to lose?
    python -m benchmarks data-scale ...    start and workers' memory with 118,287 images

Each row runs in a forked process of its own, on one thread.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
NUM_THREADS = 1  # ratios on one thread depend least on the machine, and a forked child has one


def parse_args(argv: list[str], names: list[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog='python -m benchmarks',
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('names', nargs='*', metavar='NAME', help=f'of {", ".join(names)}')
    parser.add_argument(
        '--out',
        type=Path,
        metavar='DIR',
        help='put the rows into DIR/results.json (default: this folder; nowhere with --quick)',
    )
    parser.add_argument('--quick', action='store_true', help='toy sizes; times mean nothing')
    parser.add_argument('--repeats', type=int, help="timed pairs, in place of the row's number")
    args = parser.parse_args(argv)
    unknown = sorted(set(args.names) - set(names))
    if unknown:
        parser.error(f'NAME: expected some of {names}, got {unknown}')
    if args.out is None and not args.quick:
        args.out = HERE
    return args


def measure(name: str, quick: bool, repeats: int | None) -> dict[str, Any]:
    """One row; runs in a process of its own."""
    import torch

    from .harness import Skipped, compare, toy
    from .registry import BENCHMARKS

    torch.set_num_threads(NUM_THREADS)
    try:
        comparison = BENCHMARKS[name](quick)
        if quick:
            comparison = toy(comparison)
        if repeats is not None:
            comparison = replace(comparison, repeats=repeats)
        return compare(comparison).as_json()
    except Skipped as reason:
        return dict(skipped=str(reason))


def run_rows(argv: list[str]) -> int:
    """Run rows and print, and store, each as soon as it is there."""
    from . import report
    from .forks import check_platform, in_fork
    from .rows import BENCHMARKS

    args = parse_args(argv, list(BENCHMARKS))
    check_platform()
    import torch

    torch.set_num_threads(NUM_THREADS)
    surroundings = report.surroundings(shlex.join(['python', '-m', 'benchmarks', *argv]))
    for name in args.names or BENCHMARKS:
        start = time.perf_counter()
        row = in_fork(measure, name, args.quick, args.repeats)
        row |= dict(quick=args.quick, wall_seconds=time.perf_counter() - start, **surroundings)
        sys.stdout.write(report.line(name, row) + '\n')
        sys.stdout.flush()
        if args.out is not None:
            report.store(args.out, name, row)
    return 0


def print_table(argv: list[str]) -> int:
    """Print the stored rows as markdown, or put them into a page."""
    from . import report
    from .rows import BENCHMARKS

    parser = argparse.ArgumentParser(prog='python -m benchmarks table')
    parser.add_argument('--out', type=Path, default=HERE, metavar='DIR', help='of results.json')
    parser.add_argument('--write', type=Path, metavar='PAGE', help='between the marks of this file')
    args = parser.parse_args(argv)
    text = report.tables(report.load(args.out), list(BENCHMARKS))
    if args.write is None:
        sys.stdout.write(text)
    else:
        report.write_into(args.write, text)
    return 0


def main(argv: list[str]) -> int:
    """Dispatch."""
    # Before torch is imported; a child that forks after OpenMP has made threads would hang.
    os.environ.setdefault('OMP_NUM_THREADS', '1')
    if argv[:1] == ['table']:
        return print_table(argv[1:])
    if argv[:1] == ['gpu']:
        from .gpu import main as gpu

        return gpu(argv[1:])
    if argv[:1] == ['slopes']:
        from .slopes.command import main as slopes

        return slopes(argv[1:])
    if argv[:1] == ['chaos']:
        from .chaos.command import main as chaos

        return chaos(argv[1:])
    if argv[:1] == ['microworld-clip']:
        from .microworld_clip import main as microworld_clip

        return microworld_clip(argv[1:])
    if argv[:1] == ['data-scale']:
        from .data_scale import main as data_scale

        return data_scale(argv[1:])
    return run_rows(argv)


if __name__ == '__main__':
    raise SystemExit(main(sys.argv[1:]))
