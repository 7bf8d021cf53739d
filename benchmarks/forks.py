"""Work in a child process: isolation, and the peak memory of one call."""

from __future__ import annotations

import ctypes
import gc
import multiprocessing
import traceback
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

STATUS = Path('/proc/self/status')
CLEAR_REFS = Path('/proc/self/clear_refs')
M_MMAP_THRESHOLD = -3  # of malloc.h


class ChildError(RuntimeError):
    """A forked child raised, or died without a word."""


def in_fork(function: Callable[..., Any], *args: Any) -> Any:
    """Call a function in a forked child and return its (picklable) result.

    The child starts with everything that the parent has built, and leaves nothing behind. Fork
    before this process has run an OpenMP region on several threads: the child has one thread only.

    Raises:
        ChildError: The child raised (its traceback is the message), or was killed.
    """
    context = multiprocessing.get_context('fork')
    receiver, sender = context.Pipe(duplex=False)
    child = context.Process(target=_send_result, args=(sender, function, args))
    child.start()
    sender.close()
    try:
        result, error = receiver.recv()
    except EOFError:
        child.join()
        raise ChildError(
            f'expected a result, got exit status {child.exitcode} of the child; out of memory?'
        ) from None
    child.join()
    if error is not None:
        raise ChildError(error)
    return result


def _send_result(sender: Connection, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
    try:
        message = (function(*args), None)
    except Exception:
        message = (None, traceback.format_exc())
    sender.send(message)


def peak_growth(function: Callable[[], Any], live_only: bool = True) -> float:
    """MiB that the resident memory of this process grows by, at its highest, during a call.

    For a fresh child, which has read the libraries' code already: those pages count as well. The
    heap is trimmed first, since freed memory that the process still holds would hide growth.

    Args:
        function: The call.
        live_only: Give every freed tensor back to the kernel at once, so that the peak is that of
            live tensors. Otherwise glibc keeps what is below its moving threshold (up to 32 MiB),
            in holes that fit or do not: faster, and what a process really takes.
    """
    libc = ctypes.CDLL(None)
    if live_only:
        libc.mallopt(M_MMAP_THRESHOLD, 2**17)
    gc.collect()
    libc.malloc_trim(0)
    CLEAR_REFS.write_text('5', encoding='ascii')  # resets VmHWM to VmRSS
    before = _memory_mib('VmRSS')
    function()
    return _memory_mib('VmHWM') - before


def in_new_process(function: Callable[..., Any], *args: Any) -> Any:
    """Call a function of a module in a new interpreter and return its (picklable) result.

    Slower than :func:`in_fork`, since everything is imported again, but free of the caller's
    history: the holes of an old heap take large tensors, which glibc then does not give back, and
    a peak comes out at anything up to twice its size.
    """
    context = multiprocessing.get_context('spawn')
    with ProcessPoolExecutor(1, mp_context=context) as pool:
        return pool.submit(function, *args).result()


def check_platform() -> None:
    """Raise where peak memory cannot be read.

    Raises:
        OSError: This is no Linux.
    """
    if not STATUS.is_file():
        raise OSError(f'the benchmarks need Linux: expected {STATUS}, got no such file')


def _memory_mib(key: str) -> float:
    lines = STATUS.read_text(encoding='ascii').splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f'{key}:')) / 1024
