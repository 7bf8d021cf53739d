"""Save the refined backbone: the student blended with the original, next to the training state."""

from __future__ import annotations

import io
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import master_only
from mmengine.hooks import CheckpointHook, Hook
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from torch import Tensor
from torch.distributed.fsdp import FullyShardedDataParallel

from .atomic_checkpoint_hook import AtomicLocalBackend


def blend_state(
    student: Mapping[str, Tensor], base: Mapping[str, Tensor], alpha: float
) -> dict[str, Tensor]:
    """``alpha * student + (1 - alpha) * base`` of every floating tensor, on the CPU.

    Keys and dtypes are the student's; tensors that are not floating point are the student's own.
    """
    blended = {}
    for name, value in student.items():
        if name in base and value.is_floating_point():
            value = torch.lerp(base[name].double(), value.double(), alpha).to(value.dtype)
        blended[name] = value.detach().cpu().clone()
    return blended


def refined_path(checkpoint: str | Path) -> Path:
    """Where the blended backbone of a checkpoint lies: beside it."""
    return Path(checkpoint).with_name(f'refined_{Path(checkpoint).name}')


@HOOKS.register_module()
class WeightEnsembleHook(Hook):
    """Write ``refined_<checkpoint>`` beside each checkpoint of a :class:`RegionAlignment` run.

    The file holds only the backbone, with the keys of :class:`RefinerCLIP`: it is what
    ``init_cfg=dict(type='Pretrained', checkpoint=...)`` of a detector or segmentor takes. Training
    goes on from the unblended weights, whose checkpoint stays exact. It follows the interval of the
    runner's checkpoint hook.

    Args:
        alpha: Share of the student, in [0, 1]. 0.7 (B/16) and 0.95 (L/14) in CLIPSelf; that the
            paper keeps them is inferred.

    Raises:
        ValueError: If ``alpha`` is outside [0, 1].
    """

    # After the checkpoint hook (VERY_LOW), so that its file name is known.
    priority = 'LOWEST'

    def __init__(self, alpha: float = 0.7) -> None:
        if not 0 <= alpha <= 1:
            raise ValueError(f'alpha: expected a value in [0, 1], got {alpha}')
        self.alpha = alpha
        self._last_written: str | None = None

    def before_train(self, runner: Runner) -> None:
        """Check that there is something to follow and to blend, before the long work starts."""
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        if not (hasattr(model, 'student') and hasattr(model, 'teacher')):
            raise TypeError(
                'WeightEnsembleHook: expected a model with student and teacher (RegionAlignment), '
                f'got {type(model).__name__}'
            )
        if not any(isinstance(hook, CheckpointHook) for hook in runner.hooks):
            print_log(
                'WeightEnsembleHook writes beside checkpoints, and this run saves none',
                logger='current',
                level=logging.WARNING,
            )
        resumed = runner.message_hub.get_info('last_ckpt')
        if resumed is not None and Path(resumed).exists() and not refined_path(resumed).exists():
            self._write(runner, resumed)  # the run was killed between the two files
        self._last_written = resumed

    def after_train_epoch(self, runner: Runner) -> None:
        """Blend if the checkpoint hook has just saved."""
        self._follow(runner)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Blend if the checkpoint hook has just saved."""
        self._follow(runner)

    def _follow(self, runner: Runner) -> None:
        saved = runner.message_hub.get_info('last_ckpt')
        if saved is None or saved == self._last_written:
            return
        self._last_written = saved
        self._write(runner, saved)

    @master_only
    def _write(self, runner: Runner, saved: str) -> None:
        student, teacher = self._states(runner, saved)
        checkpoint = dict(
            meta=dict(
                alpha=self.alpha,
                blended_from=Path(saved).name,
                epoch=runner.epoch,
                iter=runner.iter,
                seed=runner.seed,
                cfg=runner.cfg.pretty_text,
            ),
            state_dict=blend_state(student, teacher, self.alpha),
        )
        with io.BytesIO() as buffer:
            torch.save(checkpoint, buffer)
            AtomicLocalBackend().put(buffer.getvalue(), refined_path(saved))

    @staticmethod
    def _states(runner: Runner, saved: str) -> tuple[Mapping[str, Tensor], Mapping[str, Tensor]]:
        """State of student and teacher."""
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        if not isinstance(runner.model, FullyShardedDataParallel):
            return model.student.state_dict(), model.teacher.state_dict()
        # Each process holds a shard; the whole is in the checkpoint just written.
        state = torch.load(saved, map_location='cpu', weights_only=False)['state_dict']

        def part(prefix: str) -> dict[str, Tensor]:
            return {k.removeprefix(prefix): v for k, v in state.items() if k.startswith(prefix)}

        return part('student.'), part('teacher.')
