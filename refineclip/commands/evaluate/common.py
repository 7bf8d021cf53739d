"""What the kinds of ``python -m refineclip evaluate`` share: rows, tables, progress, json."""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from refineclip.evaluation import ImageScores

LIBRARIES = ('refineclip-mm', 'torch', 'torchvision', 'timm', 'open_clip_torch', 'numpy')
NUM_RESAMPLES, BOOTSTRAP_SEED = 2000, 0


def add_row_arguments(parser: argparse.ArgumentParser) -> None:
    """Add what says which encoders are compared, and where results go."""
    add_encoder_arguments(parser)
    parser.add_argument('--compare', metavar='NAME', help='row to compare the others with')
    parser.add_argument('--json', type=Path, metavar='FILE', help='write every number and setting')


def add_encoder_arguments(parser: argparse.ArgumentParser, required: bool = True) -> None:
    """Add what says which encoders there are; not ``required`` where there is a default."""
    parser.add_argument(
        '--model',
        required=required,
        help="architecture, e.g. 'ViT-B-16', 'timm/NAME', 'local-dir:...'",
    )
    parser.add_argument(
        '--models',
        nargs='+',
        required=required,
        metavar='NAME=CHECKPOINT',
        help='the rows: a weight file, tag or local-dir:FOLDER, a refined_*.pth, a checkpoint of '
        'either training stage, random, or colour; CHECKPOINT@N taps block N (from 0)',
    )
    parser.add_argument(
        '--dense-mode', default='value', help="last block of dense maps (default: 'value')"
    )
    parser.add_argument(
        '--refiner-input',
        choices=('block', 'output'),
        default='block',
        help='refiner.input that stage-1 checkpoints were trained with (default: block)',
    )
    parser.add_argument(
        '--position-interpolation',
        metavar='RULE',
        help='how position embeddings are resized, e.g. bicubic-antialias (default: as published)',
    )
    parser.add_argument(
        '--device', type=usable_device, default='cpu', help='torch device (default: cpu)'
    )
    parser.add_argument('--seed', type=int, default=0, help='seed of random weights (default: 0)')


def usable_device(name: str) -> str:
    """Return the name of a torch device that this machine has; a type of arguments.

    Raises:
        argparse.ArgumentTypeError: If there is none of that name.
    """
    import torch

    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:  # torch lists every device it ever knew
        raise argparse.ArgumentTypeError(
            f'expected a torch device of this machine (cpu, cuda, cuda:1, mps), got {name!r}; '
            '`python -m refineclip doctor` says what there is'
        ) from error
    return name


def parse_rows(pairs: Sequence[str], compare: str | None) -> dict[str, str]:
    """Split NAME=CHECKPOINT pairs.

    Raises:
        ValueError: On a pair without ``=``, a repeated name, or an unknown row to compare with.
    """
    rows: dict[str, str] = {}
    for pair in pairs:
        name, equals, spec = pair.partition('=')
        if not (name and equals and spec):
            raise ValueError(f'--models: expected NAME=CHECKPOINT, got {pair!r}')
        if name in rows:
            raise ValueError(f'--models: expected different names, got {name!r} twice')
        rows[name] = spec
    if compare is not None and compare not in rows:
        raise ValueError(f'--compare: expected one of {list(rows)}, got {compare!r}')
    return rows


def progress(description: str) -> Callable[[Iterable[Any]], Iterable[Any]]:
    """Return a wrapper of a loop that shows how far it is, its speed and the time to go.

    On stderr, in a terminal, and of several processes in the first only.
    """
    from mmengine.dist import get_world_size, is_main_process
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )
    from rich.text import Text

    class Speed(ProgressColumn):
        def render(self, task: Any) -> Text:
            speed = task.finished_speed or task.speed
            return Text('' if speed is None else f'{speed * get_world_size():.3g}/s')

    def wrap(items: Iterable[Any]) -> Iterable[Any]:
        console = Console(stderr=True)
        if not (console.is_terminal and is_main_process()):
            return items
        columns = (
            TextColumn('{task.description}'),
            BarColumn(),
            MofNCompleteColumn(),
            Speed(),
            TimeRemainingColumn(),
        )
        return _shown(Progress(*columns, console=console, transient=True), items, description)

    return wrap


def _shown(bar: Any, items: Iterable[Any], description: str) -> Iterable[Any]:
    with bar:
        yield from bar.track(items, description=description)


def quiet_logging() -> None:
    """Let through only warnings of what the libraries log, so that they do not drown the table."""
    from mmengine.logging import MMLogger

    name = 'refineclip-evaluate'
    if not MMLogger.check_instance_created(name):
        MMLogger.get_instance(name, log_level='WARNING')


def format_table(title: str, columns: Sequence[str], rows: Mapping[str, Sequence[str]]) -> str:
    """Lay out a table as text.

    Args:
        title: Head of the first column.
        columns: Heads of the others.
        rows: Name -> one cell per column.
    """
    width = max(len(title), *(len(name) for name in rows))
    widths = [
        max(len(head), *(len(cells[i]) for cells in rows.values()))
        for i, head in enumerate(columns)
    ]
    lines = []
    for name, cells in [(title, columns), *rows.items()]:
        parts = (cell.rjust(size) for cell, size in zip(cells, widths, strict=True))
        lines.append('  '.join([name.ljust(width), *parts]).rstrip())
    return '\n'.join([lines[0], '-' * max(map(len, lines)), *lines[1:]]) + '\n'


def format_value(value: float) -> str:
    """Format one measure; '-' where it is not defined."""
    return '-' if math.isnan(value) else f'{value:.4f}'


def compare_rows(
    scores: Mapping[str, Mapping[str, ImageScores]], baseline: str | None
) -> dict[str, dict[str, Any]]:
    """Difference of every row to the baseline, with a paired bootstrap over images.

    Returns:
        Row -> measure -> PairedDifference; empty without a baseline. Measures that one side lacks
        or that are not defined are left out.
    """
    from refineclip.evaluation import paired_bootstrap

    if baseline is None:
        return {}
    other = scores[baseline]
    return {
        name: {
            key: paired_bootstrap(one, other[key], NUM_RESAMPLES, BOOTSTRAP_SEED)
            for key, one in own.items()
            if key in other and not (math.isnan(one.value) or math.isnan(other[key].value))
        }
        for name, own in scores.items()
        if name != baseline
    }


def tables(
    title: str,
    columns: Mapping[str, str],
    scores: Mapping[str, Mapping[str, ImageScores]],
    differences: Mapping[str, Mapping[str, Any]],
    baseline: str | None,
) -> str:
    """Lay out values, and differences with their 95 % interval under them.

    Args:
        title: What is measured.
        columns: Measure -> head of its column.
        scores: Row -> measure -> scores.
        differences: What :func:`compare_rows` returned.
        baseline: The row that was compared with.
    """

    def cell(row: str, key: str) -> str:
        return format_value(scores[row][key].value) if key in scores[row] else '-'

    heads = list(columns.values())
    text = format_table(title, heads, {row: [cell(row, k) for k in columns] for row in scores})
    if not differences:
        return text

    def change(row: str, key: str) -> str:
        found = differences[row].get(key)
        return '-' if found is None else f'{found.value:+.4f} [{found.low:+.4f}, {found.high:+.4f}]'

    # One measure a line: an interval is too wide for a column per measure.
    rows = {head: [change(row, key) for row in differences] for key, head in columns.items()}
    names = [f'{row} - {baseline}' for row in differences]
    return text + '\n' + format_table('difference [95 %]', names, rows)


def as_json(
    scores: Mapping[str, Mapping[str, ImageScores]], differences: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    """Values and differences as plain data; not-a-number becomes None."""

    def number(value: float) -> float | None:
        return None if math.isnan(value) else value

    return {
        'scores': {
            row: {key: number(one.value) for key, one in own.items()} for row, own in scores.items()
        },
        'differences': {
            row: {
                key: {name: number(getattr(one, name)) for name in ('value', 'se', 'low', 'high')}
                for key, one in own.items()
            }
            for row, own in differences.items()
        },
    }


def environment() -> dict[str, Any]:
    """Versions and machine that a number belongs to."""
    import torch

    versions: dict[str, str | None] = {}
    for library in LIBRARIES:
        try:
            versions[library] = metadata.version(library)
        except metadata.PackageNotFoundError:  # run from a checkout, or another distribution's name
            versions[library] = None
    return {
        'python': platform.python_version(),
        'versions': versions,
        'torch_threads': torch.get_num_threads(),
        'gpu': torch.cuda.get_device_name() if torch.cuda.is_available() else None,
    }


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write a result whole or not at all; of several processes the first one does."""
    from mmengine.dist import is_main_process

    if not is_main_process():
        return
    text = json.dumps(content, indent=1, default=str) + '\n'
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() and not path.is_file():  # /dev/stdout, a pipe: never to be replaced
        path.write_text(text)
        return
    from refineclip.encoders.weights.whole_files import (
        write_whole,  # torch, which --help goes without
    )

    write_whole(path, lambda temporary: temporary.write_text(text))


def check_writable(path: Path | None, option: str = '--json', folder: bool = False) -> None:
    """Refuse a result that cannot be written, before the long work.

    Args:
        path: The result; None is no result.
        option: Name of the option, for the error.
        folder: Whether a folder is to be written, not a file.

    Raises:
        ValueError: If something else is there, a folder of the path is a file, or must not be
            written to.
    """
    if path is None:
        return
    there = next(one for one in (path.absolute(), *path.absolute().parents) if one.exists())
    is_folder = folder or there != path.absolute()
    if there.is_dir() != is_folder:
        kind = 'folder' if folder else 'file'
        raise ValueError(f'{option}: expected a {kind} to write, got {path}: look at {there}')
    if not os.access(there, os.W_OK):
        raise ValueError(f'{option}: expected leave to write {path}, got none for {there}')


def printable(text: object) -> str:
    """Text that every terminal can show on one line.

    Of a file's name, bytes that are no text, line breaks and control characters become escapes.
    """
    encoding = sys.stdout.encoding or 'utf-8'
    shown = (repr(char)[1:-1] if ord(char) < 32 or ord(char) == 127 else char for char in str(text))
    return ''.join(shown).encode(encoding, errors='backslashreplace').decode(encoding)
