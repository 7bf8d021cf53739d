"""Time and peak memory of evaluations against the number of images, and what they come to.

    python -m benchmarks slopes                       250 to 2,000 images of 1024 px: days
    python -m benchmarks slopes regions --pixels 224 --sizes 64 128 256

Every measurement is a call of `python -m refineclip evaluate KIND` in an interpreter of its own,
which has evaluated 4 images before, so that libraries are read. Memory is what it grows by from
there on at its highest. Time is the processor's, on one thread. Images are drawn, weights random.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import tempfile
import time
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).resolve().parents[1]
WARM = 4  # images
TARGETS = {'COCO val2017': 5000, 'LVIS val': 19809}
HEADER = """\
| evaluation | images | px | CPU s | peak MiB | slope of time | slope of memory | CPU s an image | \
5,000 images | 19,809 images | bound by |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |
"""


def measure(warm: list[str], argv: list[str]) -> dict[str, float]:
    """Evaluate; runs in an interpreter of its own.

    Returns:
        ``seconds``, ``cpu_seconds`` and ``peak_mib`` of the call.

    Raises:
        RuntimeError: It failed; the message is what it said.
    """
    import torch

    from benchmarks.forks import peak_growth
    from refineclip.commands import evaluate

    torch.set_num_threads(1)
    with tempfile.TemporaryFile('w+') as said, redirect_stdout(said), redirect_stderr(said):

        def call(arguments: list[str]) -> None:
            if status := evaluate.main(arguments):
                said.seek(0)
                raise RuntimeError(f'{shlex.join(arguments)}: exit status {status}\n{said.read()}')

        call(warm)
        start, cpu_start = time.perf_counter(), time.process_time()
        peak = peak_growth(lambda: call(argv))
        return dict(
            seconds=time.perf_counter() - start,
            cpu_seconds=time.process_time() - cpu_start,
            peak_mib=peak,
        )


def slope(sizes: list[int], values: list[float]) -> float:
    """Exponent of the power of the size that a value grows with."""
    return float(np.polyfit(np.log(sizes), np.log(values), 1)[0])


def summary(sizes: list[int], results: list[dict[str, float]]) -> dict[str, Any]:
    """Slopes, the straight lines through the figures, and where those lead."""
    seconds = [one['cpu_seconds'] for one in results]
    peaks = [one['peak_mib'] for one in results]
    second, start = np.polyfit(sizes, seconds, 1)
    growth, base = np.polyfit(sizes, peaks, 1)
    return dict(
        time_slope=slope(sizes, seconds),
        memory_slope=slope(sizes, peaks),
        seconds_per_image=float(second),
        mib_per_image=float(growth),
        hours={name: float(start + n * second) / 3600 for name, n in TARGETS.items()},
        # A line that falls leads below what was seen.
        gib={name: max(base + n * growth, max(peaks)) / 1024 for name, n in TARGETS.items()},
    )


def line(row: dict[str, Any]) -> str:
    """One kind as a row of the table."""
    figures = row['figures']
    spread = [
        '/'.join(f'{one[key]:.0f}' for one in row['results']) for key in ('cpu_seconds', 'peak_mib')
    ]
    goals = [
        f'{value:.2f} ({goal}: {"reached" if low <= value <= high else "**missed**"})'
        for value, goal, low, high in (
            (figures['time_slope'], '1 +- .1', 0.9, 1.1),
            (figures['memory_slope'], '0 +- .05', -0.05, 0.05),
        )
    ]
    ahead = [f'{figures["hours"][n]:.2f} h, {figures["gib"][n]:.2f} GiB' for n in TARGETS]
    cells = [f'`{row["kind"]}`', '/'.join(map(str, row['sizes'])), str(row['pixels']), *spread]
    cells += [*goals, f'{figures["seconds_per_image"]:.3f}', *ahead, row['bound']]
    return f'| {" | ".join(cells)} |\n'


def parse_args(argv: list[str]) -> argparse.Namespace:
    """Parse the command line."""
    from .commands import KINDS

    parser = argparse.ArgumentParser(
        prog='python -m benchmarks slopes',
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('kinds', nargs='*', metavar='KIND', help=f'of {", ".join(KINDS)}')
    parser.add_argument(
        '--sizes', type=int, nargs='+', default=[250, 500, 1000, 2000], help='numbers of images'
    )
    parser.add_argument('--pixels', type=int, default=1024, help='side of an image (default: 1024)')
    parser.add_argument('--out', type=Path, default=HERE, metavar='DIR', help='of results.json')
    args = parser.parse_args(argv)
    if unknown := sorted(set(args.kinds) - set(KINDS)):
        parser.error(f'KIND: expected some of {KINDS}, got {unknown}')
    if len(args.sizes) < 2 or sorted(set(args.sizes)) != args.sizes or args.sizes[0] <= WARM:
        parser.error(f'--sizes: expected two or more, rising, above {WARM}, got {args.sizes}')
    return args


def main(argv: list[str]) -> int:
    """Measure, store each kind as soon as it is there, and print the table."""
    from .. import report
    from ..forks import check_platform, in_new_process
    from .commands import BOUNDS, KINDS, arguments, write_detector, write_models, write_set

    args = parse_args(argv)
    check_platform()
    os.environ.setdefault('OMP_NUM_THREADS', '1')
    surroundings = report.surroundings(shlex.join(['python', '-m', 'benchmarks', 'slopes', *argv]))
    kinds = args.kinds or KINDS
    sys.stdout.write(HEADER)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_models(root, args.pixels)
        if 'synonyms' in kinds:
            in_new_process(write_detector, root)
        for size in (WARM, *args.sizes):
            write_set(root, size)
        for kind in kinds:
            warm = arguments(kind, root, WARM, args.pixels)
            results = [
                in_new_process(measure, warm, arguments(kind, root, size, args.pixels))
                for size in args.sizes
            ]
            row = dict(kind=kind, sizes=args.sizes, pixels=args.pixels, results=results)
            row |= dict(figures=summary(args.sizes, results), bound=BOUNDS[kind], **surroundings)
            report.store(args.out, f'slopes-{kind}-{args.pixels}', row)
            sys.stdout.write(line(row))
            sys.stdout.flush()
    return 0
