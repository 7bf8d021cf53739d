"""Short training runs of the project's own configs, on drawn images, for a CPU."""

from __future__ import annotations

import importlib.util
import os
import socket
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from types import ModuleType

from .verdicts import ROOT

NUM_IMAGES = 8


@dataclass(frozen=True)
class Toy:
    """A run that is stopped and resumed.

    Attributes:
        config: Below ``configs``.
        options: ``--cfg-options``; DATA stands for the folder of drawn images.
        needs_mm: Whether mmdet and mmseg are needed.
    """

    config: str
    options: tuple[str, ...]
    needs_mm: bool = False


_COMMON = ('default_hooks.checkpoint.interval=2', 'default_hooks.logger.interval=1')
# mmengine would wrap a model that it knows nothing of for the GPU of each process.
_SHORT = (
    'train_cfg.max_iters=6',
    'train_cfg.val_interval=100',
    'train_dataloader.batch_size=2',
    "model_wrapper_cfg={'type': 'MMDistributedDataParallel', 'device_ids': None}",
)
_PHOTOS = ('train_dataloader.dataset.data_root=DATA/train', 'train_cfg.max_iters=8')
TOYS = {
    'stage 1': Toy('refiner/toy/refiner_vit-toy_1xb2-4i_photos.py', (*_PHOTOS, *_COMMON)),
    'stage 2': Toy('distill/toy/r-sc-rla_vit-toy_1xb2-4i_photos.py', (*_PHOTOS, *_COMMON)),
    'F-ViT': Toy(
        'microworld/fvit_microworld.py',
        (
            *_COMMON,
            *_SHORT,
            *(f'{phase}_dataloader.dataset.data_root=DATA' for phase in ('train', 'val', 'test')),
            *(
                f'{phase}_evaluator.ann_file=DATA/annotations/instances_val.json'
                for phase in ('val', 'test')
            ),
        ),
        needs_mm=True,
    ),
    'CAT-Seg': Toy(
        'microworld/cat-seg_microworld.py',
        (
            *_COMMON,
            *_SHORT,
            *(f'{phase}_dataloader.dataset.data_root=DATA' for phase in ('train', 'val', 'test')),
        ),
        needs_mm=True,
    ),
}


def preload(mm: bool) -> None:
    """Import in this process what its forks will need."""
    import refineclip.datasets
    import refineclip.distill
    import refineclip.encoders

    if mm:
        import refineclip.detection
        import refineclip.segmentation  # noqa: F401


@cache
def _launcher() -> ModuleType:
    spec = importlib.util.spec_from_file_location('chaos_train', ROOT / 'tools' / 'train.py')
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def start(toy: Toy, data: Path, work_dir: Path, processes: int, limit: int | None) -> list[int]:
    """Fork a training with ``--resume``; returns the ids of its processes, each of a group.

    Args:
        toy: The run.
        data: Folder of drawn images.
        work_dir: Its log, checkpoints, and what it prints (``output_RANK.txt``).
        processes: Joined over gloo if more than one.
        limit: No file may grow beyond so many bytes, as on a full disk; None: any.
    """
    launcher, port = _launcher(), _free_port()
    pids = []
    for rank in range(processes):
        pid = os.fork()
        if pid == 0:
            _train(launcher, toy, data, work_dir, rank, processes, port, limit)
        pids.append(pid)
    return pids


def _train(
    launcher: ModuleType,
    toy: Toy,
    data: Path,
    work_dir: Path,
    rank: int,
    processes: int,
    port: int,
    limit: int | None,
) -> None:
    """Run ``tools/train.py`` in a forked child, which ends here."""
    status = 1
    try:
        work_dir.mkdir(parents=True, exist_ok=True)
        output = (work_dir / f'output_{rank}.txt').open('a')
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
        sys.stdout = sys.stderr = output
        options = [option.replace('DATA', str(data)) for option in toy.options]
        sys.argv = ['train.py', str(ROOT / 'configs' / toy.config), '--work-dir', str(work_dir)]
        sys.argv += ['--resume', '--cfg-options', *options]
        if processes > 1:
            sys.argv += ['--launcher', 'pytorch']
            os.environ |= dict(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(processes))
            os.environ |= dict(MASTER_ADDR='127.0.0.1', MASTER_PORT=str(port))
        if limit is not None:
            import resource

            resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        launcher.main()
        status = 0
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(status)


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(('127.0.0.1', 0))
        return int(one.getsockname()[1])
