"""Trainings that are killed, or run into a full disk, and go on: equal to one that was not."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch

from refineclip.datasets.microworld.coco_layout import write_split
from refineclip.encoders.weights.checkpoint_file import read_content

from .toys import NUM_IMAGES, TOYS, Toy, preload, start
from .verdicts import Outcome, Verdict

_COMPARED = ('state_dict', 'optimizer', 'param_schedulers')
_CLOCK = ('time', 'data_time', 'memory')
_TAIL = 300  # characters of what a failed run printed


def run_kills(
    folder: Path, number: int, seed: int, toys: Sequence[str] = tuple(TOYS), full_disk: bool = False
) -> Iterator[Outcome]:
    """Stop trainings at random moments and compare what comes of resuming them.

    Args:
        folder: Work directories.
        number: How many are stopped, the toys in turn; every second lap with two processes.
        seed: Decides the moments.
        toys: Some of ``TOYS``.
        full_disk: Stop them by a file that cannot grow, rather than by SIGKILL.
    """
    installed = find_spec('mmdet') is not None and find_spec('mmseg') is not None
    names = [name for name in toys if installed or not TOYS[name].needs_mm]
    preload(any(TOYS[name].needs_mm for name in names))
    data = folder / 'data'
    for split in ('train', 'val'):
        write_split(data, split, NUM_IMAGES)
    rng = np.random.default_rng(seed)
    references: dict[tuple[str, int], float] = {}
    for index in range(number):
        name, processes = names[index % len(names)], 1 + index // len(names) % 2
        toy, whole = TOYS[name], folder / f'{name}_{processes}'
        if (name, processes) not in references:
            started = time.monotonic()
            if _wait(start(toy, data, whole, processes, None)):
                yield Outcome(name, 'never stopped', Verdict.CRASHED, _tail(whole))
                return
            references[name, processes] = time.monotonic() - started
        work_dir = folder / f'{name}_{processes}_{index}'
        if full_disk:
            what = _fill(rng, toy, data, work_dir, whole, processes)
        else:
            moment = float(rng.uniform(0, references[name, processes]))
            what = _kill(rng, toy, data, work_dir, processes, moment)
        kind = f'{name}, {processes} process{"es" if processes > 1 else ""}'
        if _wait(start(toy, data, work_dir, processes, None)):
            yield Outcome(kind, what, Verdict.CRASHED, _tail(work_dir))
            continue
        found = differences(whole, work_dir)
        yield Outcome(kind, what, Verdict.WRONG if found else Verdict.LOADED, found)


def _kill(
    rng: np.random.Generator, toy: Toy, data: Path, work_dir: Path, processes: int, moment: float
) -> str:
    pids = start(toy, data, work_dir, processes, None)
    time.sleep(moment)
    for pid in rng.permutation(pids):
        os.kill(int(pid), signal.SIGKILL)
        time.sleep(float(rng.uniform(0, 0.1)) if processes > 1 else 0)
    _wait(pids)
    return f'killed after {moment:.1f} s, {len(list(work_dir.glob("iter_*.pth")))} checkpoints'


def _fill(
    rng: np.random.Generator, toy: Toy, data: Path, work_dir: Path, whole: Path, processes: int
) -> str:
    """Let the largest files of a run fail at a random byte."""
    size = max(path.stat().st_size for path in whole.glob('*.pth'))
    limit = int(rng.integers(size // 8, size))
    status = _wait(start(toy, data, work_dir, processes, limit))
    return f'no file beyond {limit} of {size} bytes, status {status}'


def _wait(pids: Sequence[int]) -> int:
    """Wait for processes; once one fails, the others, which wait for it, are ended."""
    status, left = 0, list(pids)
    while left:
        for pid in list(left):
            done, code = os.waitpid(pid, os.WNOHANG)
            if not done:
                continue
            left.remove(pid)
            status = status or code
            for other in left if code else ():
                os.kill(other, signal.SIGKILL)
        time.sleep(0.02)
    return status


def differences(whole: Path, other: Path) -> str:
    """Say what two finished runs do not share, bit for bit; empty if nothing."""
    names = sorted(path.name for path in whole.glob('*.pth'))
    others = sorted(path.name for path in other.glob('*.pth'))
    if names != others:
        return f'files {others} in place of {names}'
    last = max((n for n in names if n.startswith('iter_')), key=lambda n: int(n[5:-4]))
    refined = [name for name in names if name.startswith('refined_')]
    for name in (last, *refined):
        first, second = read_content(whole / name), read_content(other / name)
        if name != last:  # beside the weights, all but the config, which says whether it resumes
            for content in (first, second):
                content['meta'].pop('cfg')
        for key in _COMPARED if name == last else ('state_dict', 'meta'):
            if found := _differing(first.get(key), second.get(key), f'{name} {key}'):
                return found
    first, second = _last_log(whole), _last_log(other)
    return '' if first == second else f'log {second} in place of {first}'


def _differing(first: Any, second: Any, where: str) -> str:
    if isinstance(first, torch.Tensor):
        same = isinstance(second, torch.Tensor) and torch.equal(first, second)
        return '' if same else where
    if isinstance(first, dict | list | tuple):
        if type(first) is not type(second) or len(first) != len(second):
            return where
        keys = list(first) if isinstance(first, dict) else range(len(first))
        found = (_differing(first[k], second[k], f'{where}.{k}') for k in keys)
        return next(filter(None, found), '')
    return '' if first == second else where


def _last_log(work_dir: Path) -> dict[str, Any]:
    logs = sorted(work_dir.glob('*/vis_data/scalars.json'))
    lines = [json.loads(line) for log in logs for line in log.read_text().splitlines()]
    if not lines:
        return {}
    last = max(lines, key=lambda line: line['step'])
    return {key: value for key, value in last.items() if key not in _CLOCK}


def _tail(work_dir: Path) -> str:
    return ' | '.join(path.read_text()[-_TAIL:] for path in sorted(work_dir.glob('output_*.txt')))
