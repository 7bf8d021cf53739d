"""What the tools that prepare segmentation labels share: arguments, loop, the final check."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SECONDS_BETWEEN_LINES = 10.0


def make_parser(description: str, epilog: str = '') -> argparse.ArgumentParser:
    """Parser with what all tools take."""
    parser = argparse.ArgumentParser(
        description=description,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        '--data-root',
        type=Path,
        default=Path('data'),
        help='folder of all data sets (default: data)',
    )
    return parser


def need(path: Path, what: str) -> Path:
    """Return a path that exists, or stop."""
    if not path.exists():
        raise SystemExit(f'expected {what} at {path}, got nothing there')
    return path


def look_up(
    labels: np.ndarray, table: dict[int, int], path: Path, default: int | None
) -> np.ndarray:
    """Exchange labels by a table.

    Args:
        labels: (H, W) integers.
        table: Old label -> new label.
        path: Where they are from, for the error.
        default: What labels that are not in the table become; None refuses them.
    """
    values, inverse = np.unique(labels, return_inverse=True)
    if default is None and (unknown := [value for value in values.tolist() if value not in table]):
        raise SystemExit(f'{path}: expected labels {min(table)}..{max(table)}, got {unknown[:5]}')
    new = np.array([table.get(value, default) for value in values.tolist()])
    return new[inverse].reshape(labels.shape)


def save_labels(labels: np.ndarray, path: Path) -> None:
    """Write a label map whole or not at all; it is uint8 or uint16 already."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f'.{os.getpid()}_{path.name}')
    Image.fromarray(labels).save(temporary)
    temporary.replace(path)


def progress(items: Sequence[Any], what: str) -> Iterator[Any]:
    """Yield items and say on stderr how far it is and how long it takes."""
    started = last = time.monotonic()
    for count, item in enumerate(items, start=1):
        yield item
        now = time.monotonic()
        if now - last > SECONDS_BETWEEN_LINES or count == len(items):
            last, rate = now, count / max(now - started, 1e-9)
            left = (len(items) - count) / rate
            sys.stderr.write(f'{count}/{len(items)} {what}, {rate:.1f}/s, {left:.0f} s to go\n')


def convert_all(pairs: Iterable[tuple[Path, Path]], convert: Callable[[Path], np.ndarray]) -> None:
    """Convert label files (source, target); targets that exist are left as they are."""
    todo = [(source, target) for source, target in pairs if not target.exists()]
    for source, target in progress(todo, 'label maps'):
        save_labels(convert(source), target)


def finish(names: Sequence[str], data_root: Path) -> int:
    """Check benchmarks and print a verdict for each; returns 0 if all are complete, else 1."""
    from refineclip.segmentation.benchmarks import get_benchmark
    from refineclip.segmentation.benchmarks.label_check import check_labels

    complete = True
    for name in names:
        try:
            report = check_labels(
                get_benchmark(name), data_root, lambda items: progress(items, 'checked')
            )
        except (OSError, ValueError) as error:
            print(error)
            complete = False
            continue
        print(report.text(), end='')
        complete &= report.is_complete
    return 0 if complete else 1
