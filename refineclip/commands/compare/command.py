"""``python -m refineclip compare``: train every method the same way, measure all, one table.

What is trained or measured stays: a stopped comparison goes on with ``--resume``, which also takes
more methods and more seeds.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..evaluate.common import check_writable
from ..help_text import command_parser

if TYPE_CHECKING:
    from .job import Job
    from .suite import Method

MARKER = '.refineclip-compare'


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = command_parser(
        'compare',
        'Train ways of refining CLIP on the same images with the same passes of the student, '
        'measure regions, spatial quality, whole images and words alone, and write one table with '
        'intervals, one figure and a json of every setting.',
        '--suite microworld --methods RLA SC-RLA --quick --out work_dirs/compare',
        '--suite photos --data DATA --out work_dirs/compare_photos --seeds 0 1',
        '--suite coco',
        notes='microworld draws its images; photos is a real ViT-S/14 on 128 photos; coco is '
        'planned in GPU-hours and not run. A method is one entry of the suite: docs/compare.md.',
    )
    parser.add_argument(
        '--suite', required=True, metavar='NAME|FILE', help='microworld, photos, coco, or a file'
    )
    parser.add_argument(
        '--methods',
        nargs='+',
        default=[],
        metavar='NAME',
        help='rows, besides that which all are compared with (default: all of the suite)',
    )
    parser.add_argument('--data', type=Path, metavar='DIR', help='data of the suite')
    parser.add_argument('--out', type=Path, default=Path('work_dirs/compare'), metavar='DIR')
    parser.add_argument(
        '--seeds', type=int, nargs='+', default=[0, 1], help='of every training (default: 0 1)'
    )
    parser.add_argument(
        '--length', type=float, default=1.0, help="factor on the suite's passes (default: 1)"
    )
    parser.add_argument(
        '--jobs',
        type=int,
        default=min(2, os.cpu_count() or 1),
        help='processes, one thread each (default: 2)',
    )
    parser.add_argument(
        '--downstream',
        action='store_true',
        help='also train F-ViT and CAT-Seg on the rows (microworld; needs mmdet and mmseg; long)',
    )
    parser.add_argument(
        '--quick', action='store_true', help='a few images and steps: shows that it runs, no more'
    )
    parser.add_argument('--resume', action='store_true', help='go on with what --out holds')
    args = parser.parse_args(argv)
    if args.jobs < 1:
        parser.error(f'--jobs: expected 1 or more, got {args.jobs}')
    if args.length <= 0:
        parser.error(f'--length: expected a factor above 0, got {args.length}')
    if len(set(args.seeds)) < len(args.seeds) or min(args.seeds) < 0:
        parser.error(f'--seeds: expected different numbers >= 0, got {args.seeds}')
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Run the comparison.

    Returns:
        0; 2 with a message for wrong input; 130 after Ctrl-C. What was measured stays.
    """
    args = parse_args(argv)
    try:
        return run(args)
    except (OSError, ModuleNotFoundError, ValueError) as error:
        sys.stderr.write(f'compare: {error}\n')
        return 2
    except KeyboardInterrupt:
        sys.stderr.write('compare: interrupted; the same command with --resume goes on\n')
        return 130


def run(args: argparse.Namespace) -> int:
    """Check everything, then train and measure what is not done, and write the results."""
    from rich.console import Console

    from ..steps import finished_steps, run_steps
    from .downstream import downstream_steps
    from .job import Job
    from .planning import plan, refuse_changed
    from .results.report import write_results
    from .training import check

    started = time.monotonic()
    job = Job(args.suite, args.data, args.out, args.length, args.quick)
    methods = job.suite.choose(args.methods)
    check_writable(args.out / 'compare.json', '--out')
    if job.suite['kind'] == 'coco':
        return run_plan(args, job, methods)
    job.source.check()
    check_folder(args, job)
    for method in methods:
        if method.trains:
            check(job, method, args.seeds[0])
    steps, store = plan(job, methods, args.seeds), args.out / 'steps'
    if args.downstream:
        steps += downstream_steps(job, methods, args.seeds)
    refuse_changed(job, methods, args.seeds, finished_steps(steps, store))
    open_folder(args, job)
    console = Console(file=sys.stdout)
    console.print(
        f'{job.suite["title"]}: {len(methods)} rows, {len(steps)} steps in {args.jobs} processes, '
        f'seeds {args.seeds}, into {args.out}',
        highlight=False,
    )
    try:
        run_steps(steps, args.jobs, console, store)
    finally:  # after an error, of what is measured
        done = finished_steps(steps, store)
        missing = [step.name for step in steps if step.name not in done]
        sys.stdout.write(write_results(args, job, methods, done, missing))
    sys.stdout.write(f'compare: done in {(time.monotonic() - started) / 60:.1f} min\n')
    return 0


def run_plan(args: argparse.Namespace, job: Job, methods: Sequence[Method]) -> int:
    """Plan the recipes of a suite that is not run here."""
    from .hours import write_plan

    sys.stdout.write(write_plan(args, job, methods))
    return 0


def check_folder(args: argparse.Namespace, job: Job) -> None:
    """Refuse a folder that holds something else than what is to be done.

    Raises:
        ValueError: Saying what it holds.
        FileNotFoundError: If there is nothing to go on with.
    """
    marker = args.out / MARKER
    if not marker.is_file():
        if args.resume:
            raise FileNotFoundError(
                f'--resume: expected a comparison in {args.out}, got none; begin without --resume'
            )
        if args.out.exists() and (not args.out.is_dir() or any(args.out.iterdir())):
            raise ValueError(
                f'--out: expected a new folder, got {args.out}, which holds something else'
            )
        return
    if not args.resume:
        raise ValueError(
            f'--out: expected a new folder, got {args.out}, which holds a comparison; --resume '
            'goes on with it, also with more methods and seeds'
        )
    options: dict[str, Any] = json.loads(marker.read_text())
    if options != job.options():
        raise ValueError(
            f'--resume: expected the options of the comparison in {args.out}, {options}, got '
            f'{job.options()}; give the same, or name another --out'
        )


def open_folder(args: argparse.Namespace, job: Job) -> None:
    """Note what the folder holds."""
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / MARKER).write_text(json.dumps(job.options()))
