"""Save and validate the refined backbone: the student blended with the original."""

from __future__ import annotations

import io
import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import master_only
from mmengine.hooks import CheckpointHook, Hook
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS
from mmengine.runner import BaseLoop, Runner
from torch import Tensor, nn

from refineclip.encoders.weights.activation import uses_quick_gelu
from refineclip.encoders.weights.whole_files import write_whole

VALIDATED = ('blended', 'raw', 'both')


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


@contextmanager
def blended(student: nn.Module, base: nn.Module, alpha: float) -> Iterator[dict[str, Tensor]]:
    """Give a student its blend with its base, and afterwards its own values back, bit for bit.

    Also after an error. Values are copied in place, so that wrappers and optimizers go on seeing
    the same parameters. Yields the student's own values by name.
    """
    own = student.state_dict()  # shares memory with the parameters
    kept = {name: value.detach().clone() for name, value in own.items()}
    mixed = blend_state(own, base.state_dict(), alpha)
    try:
        with torch.no_grad():
            for name, value in own.items():
                value.copy_(mixed[name])
        yield kept
    finally:
        with torch.no_grad():
            for name, value in own.items():
                value.copy_(kept[name])


def _measure(runner: Runner, loop: Any) -> dict[str, float]:
    """Metrics of a loop's images by the weights as they are, without its hooks of an epoch."""
    runner.model.eval()
    for index, batch in enumerate(loop.dataloader):
        loop.run_iter(index, batch)
    return loop.evaluator.evaluate(len(loop.dataloader.dataset))


def _unwrapped(runner: Runner) -> Any:
    return runner.model.module if is_model_wrapper(runner.model) else runner.model


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

    Validation and test measure the blended weights as well, those of ``refined_<checkpoint>``, as
    CLIPSelf's published code does after each epoch.

    Args:
        alpha: Share of the student, in [0, 1]. 0.7 (B/16) and 0.95 (L/14) in CLIPSelf; that the
            paper keeps them is inferred.
        validate: 'blended'; 'raw' for the student as it trains; 'both' for a second pass over the
            images, whose metrics are named ``raw/...``. ``save_best`` and hooks that measure after
            a validation see the blended ones.

    Raises:
        ValueError: If ``alpha`` is outside [0, 1], or there is no such ``validate``.
    """

    # After the checkpoint hook (VERY_LOW), so that its file name is known.
    priority = 'LOWEST'

    def __init__(self, alpha: float = 0.7, validate: str = 'blended') -> None:
        if not 0 <= alpha <= 1:
            raise ValueError(f'alpha: expected a value in [0, 1], got {alpha}')
        if validate not in VALIDATED:
            raise ValueError(f'validate: expected one of {VALIDATED}, got {validate!r}')
        self.alpha, self.validate = alpha, validate
        self._last_written: str | None = None
        self._own: Mapping[str, Tensor] = {}  # the student's, while it is blended

    def before_run(self, runner: Runner) -> None:
        """Put the blending around the loops of validation and test."""
        if self.validate == 'raw' or not hasattr(_unwrapped(runner), 'teacher'):
            return
        # A loop has no hook for its errors, and a blended student must not outlive one.
        for loop, stage in ((runner._val_loop, 'val'), (runner._test_loop, 'test')):
            if not isinstance(loop, BaseLoop) or isinstance(loop.run, partial):
                continue
            loop.run = partial(self._run_blended, runner, loop, stage, loop.run)

    def _run_blended(
        self, runner: Runner, loop: Any, stage: str, run: Callable[[], dict]
    ) -> dict[str, float]:
        raw: dict[str, float] = {}
        if self.validate == 'both':
            raw = {f'raw/{name}': value for name, value in _measure(runner, loop).items()}
            for name, value in raw.items():  # which the logger reads with the others
                runner.message_hub.update_scalar(f'{stage}/{name}', value)
        model = _unwrapped(runner)
        try:
            with blended(model.student, model.teacher, self.alpha) as self._own:
                metrics = run()
        finally:
            self._own = {}
        return {**metrics, **raw}

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict[str, Any]) -> None:
        """Keep a checkpoint of ``save_best``, in the middle of a validation, the training state."""
        for name, value in self._own.items():
            checkpoint['state_dict'][f'student.{name}'] = value.cpu()

    def before_train(self, runner: Runner) -> None:
        """Check that there is something to follow and to blend, before the long work starts."""
        model = _unwrapped(runner)
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
            # The run was killed between the two files.
            self._write(runner, resumed, runner.epoch, runner.iter)
        self._last_written = resumed

    def after_train_epoch(self, runner: Runner) -> None:
        """Blend if the checkpoint hook has just saved."""
        self._follow(runner, runner.epoch + 1, runner.iter)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Blend if the checkpoint hook has just saved."""
        self._follow(runner, runner.epoch, runner.iter + 1)

    def _follow(self, runner: Runner, epoch: int, iteration: int) -> None:
        saved = runner.message_hub.get_info('last_ckpt')
        if saved is None or saved == self._last_written:
            return
        self._last_written = saved
        self._write(runner, saved, epoch, iteration)

    @master_only
    def _write(self, runner: Runner, saved: str, epoch: int, iteration: int) -> None:
        """Write the blend of a checkpoint of so many finished epochs and iterations."""
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        checkpoint = dict(
            meta=dict(
                alpha=self.alpha,
                blended_from=Path(saved).name,
                epoch=epoch,
                iter=iteration,
                seed=runner.seed,
                quick_gelu=uses_quick_gelu(model.student),
                cfg=runner.cfg.pretty_text,
            ),
            state_dict=blend_state(
                model.student.state_dict(), model.teacher.state_dict(), self.alpha
            ),
        )
        with io.BytesIO() as buffer:
            torch.save(checkpoint, buffer)
            content = buffer.getvalue()
        write_whole(refined_path(saved), lambda path: path.write_bytes(content))
