"""Steps that wait for each other, run side by side in processes of one thread each."""

from __future__ import annotations

import multiprocessing
import os
import signal
import time
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from refineclip.encoders.weights.checkpoint_file import read_content
from refineclip.encoders.weights.whole_files import warn_made_anew, write_whole
from refineclip.evaluation.bootstrap import ImageScores
from refineclip.visualization.context_curve import RefiningCurve

_POLL = 1.0  # seconds between two looks at the steps that run
_RESULT = 'result'
_ALMOST = 0.95  # a step that takes longer than expected stays at this share


@dataclass(frozen=True)
class Step:
    """One piece of work.

    Attributes:
        name: Shown while it runs; unique.
        function: A function of a module, so that another process can import it.
        arguments: Its arguments; they can be pickled.
        needs: Names of earlier steps that must be done.
        seconds: About how long it takes on one core, for the time to go.
    """

    name: str
    function: Callable[..., Any]
    arguments: tuple[Any, ...]
    needs: tuple[str, ...] = ()
    seconds: float = 1.0


def run_steps(steps: Sequence[Step], jobs: int, console: Console, store: Path) -> dict[str, Any]:
    """Run all steps, a step only after what it needs.

    Args:
        steps: In an order that respects ``needs``.
        jobs: Processes; 1 runs everything in this one.
        console: Gets progress and one line per finished step.
        store: Folder of what finished steps returned; a step that is in it is not run again.

    Returns:
        Name -> what the function returned.

    Raises:
        Exception: What a step raised; steps that run are stopped.
    """
    progress = Progress(
        TextColumn('{task.description}'),
        BarColumn(),
        TextColumn('{task.percentage:3.0f} %'),
        TimeElapsedColumn(),
        TextColumn('to go'),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal,
    )
    with progress:
        board = _Board(steps, progress, store)
        return _run_here(steps, board) if jobs == 1 else _run_apart(steps, jobs, board)


def finished_steps(steps: Sequence[Step], store: Path) -> dict[str, Any]:
    """What those of the steps returned that a run finished, also one that was stopped later.

    Args:
        steps: The steps.
        store: See :func:`run_steps`.
    """
    results = {}
    for step in steps:
        file = _file(step, store)
        if file.is_file():
            try:
                with torch.serialization.safe_globals([ImageScores, RefiningCurve]):
                    results[step.name] = read_content(file)[_RESULT]
            except ValueError as error:
                warn_made_anew(str(error))
    return results


def _file(step: Step, store: Path) -> Path:
    return store / f'{step.name}.pt'


class _Board:
    """What runs, what is done, and how far the whole is."""

    def __init__(self, steps: Sequence[Step], progress: Progress, store: Path) -> None:
        store.mkdir(parents=True, exist_ok=True)
        self.progress, self.store = progress, store
        self.total = sum(step.seconds for step in steps)
        self.task = progress.add_task('', total=self.total)
        self.started: dict[str, tuple[Step, float]] = {}
        self.done = 0.0

    def earlier(self, steps: Sequence[Step]) -> dict[str, Any]:
        """What steps returned that an earlier run finished."""
        results = finished_steps(steps, self.store)
        self.done += sum(step.seconds for step in steps if step.name in results)
        return results

    def start(self, step: Step) -> None:
        self.started[step.name] = step, time.monotonic()
        self.show()

    def finish(self, step: Step, result: Any) -> None:
        write_whole(_file(step, self.store), lambda path: torch.save({_RESULT: result}, path))
        _, started = self.started.pop(step.name)
        self.done += step.seconds
        console = self.progress.console
        console.print(f'  {step.name}: {time.monotonic() - started:.0f} s', highlight=False)
        self.show()

    def show(self) -> None:
        now = time.monotonic()
        part = sum(
            min(now - started, _ALMOST * step.seconds) for step, started in self.started.values()
        )
        running = ' | '.join(self.started)
        self.progress.update(self.task, completed=self.done + part, description=running)


def _run_here(steps: Sequence[Step], board: _Board) -> dict[str, Any]:
    results = board.earlier(steps)
    for step in steps:
        if step.name in results:
            continue
        board.start(step)
        results[step.name] = step.function(*step.arguments)
        board.finish(step, results[step.name])
    return results


def _run_apart(steps: Sequence[Step], jobs: int, board: _Board) -> dict[str, Any]:
    results = board.earlier(steps)
    waiting, running = [one for one in steps if one.name not in results], dict[Future[Any], Step]()
    # Not forked: torch's threads do not survive that.
    context = multiprocessing.get_context('spawn')
    pool = ProcessPoolExecutor(jobs, mp_context=context, initializer=_start_worker)
    try:
        while waiting or running:
            # No more than run at once, so that the board tells what really runs.
            ready = [one for one in waiting if all(need in results for need in one.needs)]
            for step in ready[: jobs - len(running)]:
                waiting.remove(step)
                running[pool.submit(step.function, *step.arguments)] = step
                board.start(step)
            done, _ = wait(running, timeout=_POLL, return_when=FIRST_COMPLETED)
            for future in done:
                step = running.pop(future)
                results[step.name] = future.result()
                board.finish(step, results[step.name])
            board.show()
    except BaseException:
        pool.shutdown(wait=False, cancel_futures=True)
        for process in multiprocessing.active_children():
            process.terminate()
        raise
    pool.shutdown()
    return results


def _start_worker() -> None:
    # Ctrl-C reaches the whole group; the parent ends its workers without their stack traces.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # Threads that wait for each other on a busy machine cost minutes.
    os.environ['OMP_NUM_THREADS'] = '1'
    torch.set_num_threads(1)
