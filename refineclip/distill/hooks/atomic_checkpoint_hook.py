"""Checkpoints that are either whole or absent, whenever the process is killed."""

from __future__ import annotations

import logging
import re
from pathlib import Path
from typing import Any

from mmengine.dist import master_only
from mmengine.fileio import LocalBackend, register_backend
from mmengine.hooks import CheckpointHook
from mmengine.logging import print_log
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from refineclip.encoders.text.name_files import is_file
from refineclip.encoders.weights.activation import QUICK_GELU, uses_quick_gelu
from refineclip.encoders.weights.whole_files import write_whole


@register_backend('refineclip_atomic')
class AtomicLocalBackend(LocalBackend):
    """Local files, written under a temporary name and renamed when complete."""

    def put(self, obj: bytes | memoryview, filepath: str | Path) -> None:
        """Write bytes so that ``filepath`` never holds a part of them."""
        path = Path(filepath)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_whole(path, lambda temporary: temporary.write_bytes(obj))


@HOOKS.register_module()
class AtomicCheckpointHook(CheckpointHook):
    """mmengine's CheckpointHook with complete-or-absent files.

    Args:
        **kwargs: As for :class:`mmengine.hooks.CheckpointHook`.

    Raises:
        ValueError: If ``max_keep_ckpts`` is 1: mmengine removes the old checkpoint before it writes
            the new one, so a kill in between would leave none.
    """

    max_keep_ckpts: int
    filename_tmpl: str

    def __init__(self, **kwargs: Any) -> None:
        if kwargs.get('max_keep_ckpts', -1) == 1:
            raise ValueError('max_keep_ckpts: expected 2 or more, or -1 to keep all; got 1')
        kwargs.setdefault('backend_args', dict(backend='refineclip_atomic'))
        super().__init__(**kwargs)

    @master_only
    def _remove_leftovers(self) -> None:
        for path in Path(self.out_dir).glob('.*.pth.*.tmp'):
            path.unlink(missing_ok=True)

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Note the activation, which the weights do not show."""
        checkpoint['meta'][QUICK_GELU] = uses_quick_gelu(runner.model)

    def before_train(self, runner: Runner) -> None:
        """Remove what killed runs left half written."""
        super().before_train(runner)
        self._remove_leftovers()

    def save_now(self, runner: Runner) -> None:
        """Save after an iteration that is no end of an interval.

        A training by epochs gets ``epoch_2_iter_950.pth``: two epochs, and 950 iterations in all.
        It goes when the epoch is saved.
        """
        step = runner.iter + 1
        if not self.by_epoch:
            if runner.message_hub.get_info('last_ckpt') != self._path(step):
                self._save_checkpoint(runner)
            return
        # The parent counts and removes by number, and this one is no epoch's.
        kept, self.max_keep_ckpts = self.max_keep_ckpts, -1
        template, self.filename_tmpl = self.filename_tmpl, f'epoch_{runner.epoch}_iter_{{}}.pth'
        meta = dict(epoch=runner.epoch, iter=step)
        self._save_checkpoint_with_step(runner, step, meta=meta)
        self.max_keep_ckpts, self.filename_tmpl = kept, template

    def _path(self, step: int) -> str:
        return self.file_backend.join_path(self.out_dir, self.filename_tmpl.format(step))

    def after_train_epoch(self, runner: Runner) -> None:
        """Save, and remove what was saved within this epoch."""
        super().after_train_epoch(runner)
        if self.by_epoch and self.last_ckpt == self._path(runner.epoch + 1):
            self._remove_within(runner.epoch)

    @master_only
    def _remove_within(self, epoch: int) -> None:
        for path in Path(self.out_dir).glob(f'*epoch_{epoch}_iter_*.pth'):
            path.unlink()


def find_resumable(work_dir: str | Path) -> Path | None:
    """The checkpoint of the highest number in a work directory, ``None`` if there is none.

    Times of files say nothing: a copied folder has them in any order. mmengine's
    ``last_checkpoint`` confirms; it names a file elsewhere after a copy, a kill can leave it empty
    or behind, and where it names another file that is there, a warning says so.
    """
    work_dir = Path(work_dir)
    named = _named_by_pointer(work_dir)
    numbered = [
        (int(match[2]), int(match[3] or 0), match[1], path)
        for path in work_dir.glob('*.pth')
        if (match := re.fullmatch(r'(epoch|iter)_(\d+)(?:_iter_(\d+))?\.pth', path.name))
    ]
    if not numbered:
        return named
    kinds = {kind for _, _, kind, _ in numbered}
    if len(kinds) > 1:  # two runs in one folder: the numbers do not compare
        if named is not None:
            return named
        raise ValueError(
            f'--resume: expected checkpoints by epoch or by iteration in {work_dir}, got both and '
            'no last_checkpoint that says which; name one, --resume CHECKPOINT'
        )
    highest = max(numbered)[3]
    if named is not None and named.name != highest.name:
        print_log(
            f'--resume: {work_dir / "last_checkpoint"} names {named.name}, the highest number is '
            f'{highest.name}; going on from {highest.name}',
            logger='current',
            level=logging.WARNING,
        )
    return highest


def _named_by_pointer(work_dir: Path) -> Path | None:
    """What ``last_checkpoint`` names: the file of that name here, or else where it says."""
    pointer = work_dir / 'last_checkpoint'
    text = pointer.read_text(errors='replace').strip() if pointer.is_file() else ''
    if not text:
        return None
    return next((path for path in (work_dir / Path(text).name, Path(text)) if is_file(path)), None)
