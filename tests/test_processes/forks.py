"""Forked processes that share a group over gloo, with an end even if they wait for each other."""

from __future__ import annotations

import os
import signal
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

PATIENCE = 120  # seconds after which a group counts as hanging


def run_group(folder: Path, world: int, function: Callable[[int, int], Any]) -> list[Any]:
    """Call ``function(rank, world)`` in forked processes and return what each of them made.

    Args:
        folder: An empty folder.
        world: Number of processes; one has no group.
        function: What to call; its result is a tree of tensors and numbers.
    """
    folder.mkdir(parents=True)
    pids = []
    for rank in range(world):
        pid = os.fork()
        if pid == 0:
            _child(folder, rank, world, function)
        pids.append(pid)
    _wait(pids, folder)
    return [torch.load(folder / f'{rank}.pt', weights_only=True) for rank in range(world)]


def _child(folder: Path, rank: int, world: int, function: Callable[[int, int], Any]) -> None:
    status = 1
    try:
        torch.set_num_threads(1)
        if world > 1:
            meet = f'file://{folder / "meet"}'
            dist.init_process_group('gloo', init_method=meet, rank=rank, world_size=world)
        torch.save(function(rank, world), folder / f'{rank}.pt')
        if world > 1:
            dist.barrier()
        status = 0
    except BaseException:
        (folder / f'{rank}.txt').write_text(traceback.format_exc())
    finally:
        os._exit(status)


def _wait(pids: list[int], folder: Path) -> None:
    deadline = time.monotonic() + PATIENCE
    left, failed = list(pids), False
    while left:
        for pid in list(left):
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                left.remove(pid)
                failed = failed or status != 0
        late = time.monotonic() > deadline
        if left and (failed or late):
            for pid in left:
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
            assert failed, f'{len(left)} of {len(pids)} processes hang after {PATIENCE} s'
            break
        time.sleep(0.02)
    said = '\n'.join(path.read_text() for path in sorted(folder.glob('*.txt')))
    assert not failed, f'a process failed:\n{said}'
