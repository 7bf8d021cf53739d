"""Results on disk, with what is needed to read them, and as a table."""

from __future__ import annotations

import json
import platform
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

FILE = 'results.json'
PACKAGES = ('torch', 'torchvision', 'timm', 'numpy', 'pillow')
HEADER = """\
| row | what | goal | time A / B (range, repeats); of CPU | peak B / A | equal to | bound by |
| --- | --- | --- | --- | --- | --- | --- |
"""


GPU_ROWS = ('gpu-b16-560', 'gpu-b16-1024', 'gpu-l14-896')
GPU_HEADER = """\
| case | device | images/s | peak memory | MFU | loader cores at that rate |
| --- | --- | --- | --- | --- | --- |
"""
BEGIN = '<!-- benchmarks: begin, written by `python -m benchmarks table` -->'
END = '<!-- benchmarks: end -->'


def cpu_model() -> str:
    """Name of the processor, not of the machine."""
    lines = Path('/proc/cpuinfo').read_text(encoding='utf-8').splitlines()
    names = [line.split(':', 1)[1].strip() for line in lines if line.startswith('model name')]
    return f'{names[0] if names else platform.machine()}, {len(names)} cores'


def surroundings(command: str, seed: int = 0) -> dict[str, Any]:
    """Command, machine, versions, threads and seed of a run."""
    return dict(
        command=command,
        machine=cpu_model(),
        threads=torch.get_num_threads(),
        python=platform.python_version(),
        versions={name: version(name) for name in PACKAGES},
        seed=seed,
    )


def load(folder: Path) -> dict[str, Any]:
    """Rows by name; empty when there is no file yet."""
    path = folder / FILE
    return json.loads(path.read_text(encoding='utf-8')) if path.is_file() else {}


def store(folder: Path, name: str, row: dict[str, Any]) -> None:
    """Put one row into the file, in place of an older one of that name."""
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps({**load(folder), name: row}, indent=1, allow_nan=False)
    (folder / FILE).write_text(text + '\n', encoding='utf-8')


def line(name: str, row: dict[str, Any]) -> str:
    """One row for the terminal."""
    if 'skipped' in row:
        return f'{name:24} skipped: {row["skipped"]}'
    low, high = row['speedup_range']
    parts = [f'{name:24} time A/B {row["figures"]["speedup"]:7.2f} ({low:.2f} to {high:.2f})']
    parts.append(f'CPU time {row["figures"]["cpu_speedup"]:.2f}')
    if row['peak_mib']:
        a, b = row['peak_mib']
        parts.append(f'peak {a:.0f} -> {b:.0f} MiB ({row["figures"]["memory"]:.3f})')
    parts.append(f'difference {max(row["differences"].values()):.1e}')
    parts += [f'{g["text"]}: {"reached" if g["reached"] else "missed"}' for g in row['goals']]
    return '  '.join(parts)


def tables(rows: dict[str, Any], names: Iterable[str]) -> str:
    """Markdown of all rows: pairs by ``names``, then GPU steps; what is missing says so."""
    missing = dict(skipped='run `python -m benchmarks`')
    pairs = ''.join(_table_row(name, rows.get(name, missing)) for name in names)
    gpu: dict[str, Any] = dict.fromkeys(GPU_ROWS)
    gpu |= {name: row for name, row in rows.items() if name.startswith('gpu-')}
    steps = ''.join(_gpu_row(name.removeprefix('gpu-'), row) for name, row in gpu.items())
    return f'{HEADER}{pairs}\n{GPU_HEADER}{steps}'


def write_into(page: Path, text: str) -> None:
    """Replace what stands between the marks of a page.

    Raises:
        ValueError: The page does not have both marks.
    """
    content = page.read_text(encoding='utf-8')
    if content.count(BEGIN) != 1 or content.count(END) != 1:
        raise ValueError(f'expected {BEGIN} and {END} once each in {page}, got another number')
    head, rest = content.split(BEGIN)
    tail = rest.split(END)[1]
    page.write_text(f'{head}{BEGIN}\n{text}{END}{tail}', encoding='utf-8')


def _gpu_row(name: str, row: dict[str, Any] | None) -> str:
    if row is None:
        return f'| `{name}` | | not measured | not measured | not measured | not measured |\n'
    figures = row['figures']
    device = f'{row["device"]}, batch {row["batch_size"]}, {row["dtype"]}'
    mfu = f'{figures["mfu"]:.2f}' if 'mfu' in figures else 'peak not given'
    cells = [f'{figures["images_per_second"]:.3g}', f'{row["peak_gib"]:.1f} GiB', mfu]
    cells = [f'`{name}`', device, *cells, f'{figures["loader_cores"]:.2f}']
    return f'| {" | ".join(cells)} |\n'


def _table_row(name: str, row: dict[str, Any]) -> str:
    if 'skipped' in row:
        return f'| `{name}` | | | not measured: {row["skipped"]} | | | |\n'
    goals = '; '.join(
        f'{goal["text"]}: {"reached" if goal["reached"] else "**missed**"}' for goal in row['goals']
    )
    low, high = row['speedup_range']
    repeats = len(row['seconds'][0])
    time = f'{row["figures"]["speedup"]:.2f} ({low:.2f} to {high:.2f}, {repeats})'
    time += f'; CPU {row["figures"]["cpu_speedup"]:.2f}'
    memory = ''
    if row['peak_mib']:
        a, b = row['peak_mib']
        memory = f'{row["figures"]["memory"]:.3f} ({b:.0f} / {a:.0f} MiB)'
    facts = ', '.join(f'{key} {value:.3g}' for key, value in row['facts'].items())
    time += f'; {facts}' if facts else ''
    same = f'{max(row["differences"].values()):.1e}'
    cells = [f'`{name}`', row['setting'], goals, time, memory, same, row['bound']]
    return f'| {" | ".join(cells)} |\n'
