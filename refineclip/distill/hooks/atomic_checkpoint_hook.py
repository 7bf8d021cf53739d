"""Checkpoints that are either whole or absent, whenever the process is killed."""

from __future__ import annotations

import os
import uuid
from pathlib import Path
from typing import Any

from mmengine.dist import master_only
from mmengine.fileio import LocalBackend, register_backend
from mmengine.hooks import CheckpointHook
from mmengine.registry import HOOKS
from mmengine.runner import Runner


@register_backend('refineclip_atomic')
class AtomicLocalBackend(LocalBackend):
    """Local files, written under a temporary name and renamed when complete."""

    def put(self, obj: bytes | memoryview, filepath: str | Path) -> None:
        """Write bytes so that ``filepath`` never holds a part of them."""
        path = Path(filepath)
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f'.{path.name}.{uuid.uuid4().hex}.tmp')
        try:
            with temporary.open('wb') as file:
                file.write(obj)
                file.flush()
                os.fsync(file.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)


@HOOKS.register_module()
class AtomicCheckpointHook(CheckpointHook):
    """mmengine's CheckpointHook with complete-or-absent files.

    Args:
        **kwargs: As for :class:`mmengine.hooks.CheckpointHook`.

    Raises:
        ValueError: If ``max_keep_ckpts`` is 1: mmengine removes the old checkpoint before it writes
            the new one, so a kill in between would leave none.
    """

    def __init__(self, **kwargs: Any) -> None:
        if kwargs.get('max_keep_ckpts', -1) == 1:
            raise ValueError('max_keep_ckpts: expected 2 or more, or -1 to keep all; got 1')
        kwargs.setdefault('backend_args', dict(backend='refineclip_atomic'))
        super().__init__(**kwargs)

    @master_only
    def _remove_leftovers(self) -> None:
        for path in Path(self.out_dir).glob('.*.pth.*.tmp'):
            path.unlink(missing_ok=True)

    def before_train(self, runner: Runner) -> None:
        """Remove what killed runs left half written."""
        super().before_train(runner)
        self._remove_leftovers()


def find_resumable(work_dir: str | Path) -> Path | None:
    """The newest complete checkpoint in a work directory, ``None`` if there is none.

    mmengine's ``last_checkpoint`` file is trusted if it names an existing file; a kill can leave it
    empty or behind, then the newest ``epoch_*`` or ``iter_*`` checkpoint is taken.
    """
    work_dir = Path(work_dir)
    saved = [*work_dir.glob('epoch_*.pth'), *work_dir.glob('iter_*.pth')]
    pointer = work_dir / 'last_checkpoint'
    if pointer.exists() and Path(pointer.read_text().strip()).is_file():
        saved.append(Path(pointer.read_text().strip()))
    return max(saved, key=lambda path: path.stat().st_mtime_ns, default=None)
