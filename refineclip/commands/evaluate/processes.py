"""An evaluation in several processes of one machine, which share its images."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, redirect_stdout
from datetime import timedelta
from pathlib import Path

# The first process may work long on what all have gathered, while the others wait.
_PATIENCE = timedelta(days=1)


@contextmanager
def joined_by_launcher(args: argparse.Namespace) -> Iterator[None]:
    """Under torchrun, join the processes that it started; otherwise nothing.

    Raises:
        ValueError: If ``--processes`` asks for others, or there are more of them than GPUs.
    """
    if 'TORCHELASTIC_RUN_ID' not in os.environ:
        if args.processes < 1:
            raise ValueError(f'--processes: expected 1 or more, got {args.processes}')
        yield
        return
    if args.processes != 1:
        raise ValueError(
            f'--processes: expected none under torchrun, which started '
            f'{os.environ["WORLD_SIZE"]} already, got {args.processes}'
        )
    with _joined(args, int(os.environ['RANK']), int(os.environ['LOCAL_RANK'])):
        yield


def run_in_processes(kind: str, argv: Sequence[str], args: argparse.Namespace) -> int:
    """Run ``evaluate KIND`` in ``args.processes`` processes; returns the exit status.

    Raises:
        ValueError: What one of them raised, or if there are fewer GPUs.
    """
    from torch.multiprocessing import ProcessExitedException, spawn
    from torch.multiprocessing.spawn import ProcessException

    _check_gpus(args, args.processes)
    # Each would take all cores, and wait for the others'.
    os.environ.setdefault('OMP_NUM_THREADS', str(max(1, (os.cpu_count() or 1) // args.processes)))
    with tempfile.TemporaryDirectory() as folder:
        try:
            spawn(_run_one, (kind, list(argv), args.processes, folder), nprocs=args.processes)
        except ProcessException as error:
            # One that failed takes the others' connections with it: what they say is no news.
            for path in sorted(Path(folder).glob('error-*')):
                raise ValueError(path.read_text()) from error
            if not isinstance(error, ProcessExitedException):
                raise
            if error.exit_code != 1:
                raise ValueError(
                    f'expected {args.processes} processes to finish, got one that ended with '
                    f'status {error.exit_code}; out of memory?'
                ) from error
            return 1
    return 0


def _run_one(rank: int, kind: str, argv: list[str], count: int, folder: str) -> None:
    """Evaluate as one of ``count`` processes that meet in a folder."""
    from refineclip.datasets.image_io import BadImageError

    from .command import make_parser, run_kind

    args = make_parser(kind).parse_args(argv)
    args.processes = 1
    try:
        with _joined(args, rank, rank, f'file://{folder}/meet', count):
            status = run_kind(kind, args)
    except (ValueError, OSError, BadImageError) as error:
        Path(folder, f'error-{rank:04d}').write_text(str(error))
        status = 2
    sys.stdout.flush()
    if status:
        sys.exit(status)


@contextmanager
def _joined(
    args: argparse.Namespace,
    rank: int,
    local_rank: int,
    init_method: str = 'env://',
    count: int = -1,
) -> Iterator[None]:
    """Be one of a group of processes; only the first of them writes on stdout."""
    import torch
    from torch import distributed

    backend = 'gloo'
    if uses_gpu(args):
        _check_gpus(args, local_rank + 1)
        backend = 'nccl'
        torch.cuda.set_device(local_rank)
        args.device = f'cuda:{local_rank}'
    distributed.init_process_group(
        backend, init_method=init_method, rank=rank, world_size=count, timeout=_PATIENCE
    )
    try:
        with (
            Path(os.devnull).open('w') as nowhere,
            redirect_stdout(sys.stdout if rank == 0 else nowhere),
        ):
            yield
        distributed.barrier()  # whoever is through first would end the others
    finally:
        distributed.destroy_process_group()


def uses_gpu(args: argparse.Namespace) -> bool:
    """Whether an evaluation runs on GPUs; kinds without ``--device`` take what there is."""
    import torch

    return torch.cuda.is_available() and getattr(args, 'device', 'cuda').startswith('cuda')


def _check_gpus(args: argparse.Namespace, count: int) -> None:
    import torch

    if uses_gpu(args) and count > (there := torch.cuda.device_count()):
        raise ValueError(f'--processes: expected at most one per GPU, {there}, got {count}')
