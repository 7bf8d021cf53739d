"""Leave with a whole checkpoint when a cluster asks for the machine, and go on from there."""

from __future__ import annotations

import logging
import signal
from collections.abc import Iterator
from itertools import islice
from types import FrameType
from typing import Any

import torch
from mmengine.dist import all_reduce, barrier
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.registry import HOOKS
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch.utils.data import Sampler

from .atomic_checkpoint_hook import AtomicCheckpointHook

STATUS = 128 + signal.SIGTERM  # what a shell says of a process that SIGTERM ended
_PLACE = 'place_in_epoch'  # key of the message hub: batches done, batches of the epoch


@HOOKS.register_module()
class PreemptionHook(Hook):
    """On SIGTERM finish the step, save a whole checkpoint, and end with status 143.

    Clusters send SIGTERM some seconds before they take a node back (slurm's ``KillWait`` and
    torchrun give 30). One process that gets it is enough: all agree after every step. A step that
    gradients are accumulated for is finished first. ``tools/train.py --resume`` goes on from there;
    in a training by epochs that is the middle of one, with the batches that were not seen yet.

    During a validation the signal waits for the next step: give the cluster that much time, or the
    last checkpoint it is.

    Raises:
        SystemExit: After the step in which SIGTERM came.
        ValueError: When a training that stopped within an epoch goes on with another number of
            batches per epoch, or when there is no :class:`AtomicCheckpointHook` to save by.
    """

    # Beside the checkpoint hook, so that what follows checkpoints sees this one as well.
    priority = 'VERY_LOW'

    def __init__(self) -> None:
        self.asked = False
        self.saved = False

    def before_train(self, runner: Runner) -> None:
        """Listen; leaving comes after all hooks of a step."""
        hooks = [hook for hook in runner.hooks if isinstance(hook, AtomicCheckpointHook)]
        if not hooks:
            raise ValueError(
                'PreemptionHook: expected an AtomicCheckpointHook to save by, got none; name it in '
                'default_hooks.checkpoint, or set default_hooks.preemption=None'
            )
        self.checkpoint = hooks[0]
        runner.register_hook(_LeaveHook(self))
        self._before = signal.signal(signal.SIGTERM, self._note)
        # Nothing tells a hook that an error ended its run: a later one takes its handler away.
        while isinstance(ended := getattr(self._before, '__self__', None), PreemptionHook):
            self._before = ended._before

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
        # The loader's workers may have got the signal as well; torch would raise in this process at
        # any place, in the middle of a step.
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)

    def before_train_epoch(self, runner: Runner) -> None:
        """Leave out what an interrupted epoch has seen."""
        place = runner.message_hub.get_info(_PLACE)
        runner.message_hub.update_info(_PLACE, None)
        if place is None:
            return
        done, batches = place
        loader = runner.train_dataloader
        if batches != len(loader):
            raise ValueError(
                f'--resume: expected {batches} batches per epoch and process as in the checkpoint, '
                f'which was saved after {done} of them, got {len(loader)}; go on with the batch '
                'size, images and number of processes of then, or from the checkpoint of an epoch'
            )
        # torch refuses to change a loader; nobody has asked it for a batch yet.
        vars(loader)['batch_sampler'] = _RestOfEpoch(loader.batch_sampler, done)

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        """Agree with the other processes, and save if any was asked to end."""
        asked = torch.tensor(float(self.asked))
        all_reduce(asked, op='max')
        if not asked or (runner.iter + 1) % _accumulated(runner):
            return
        if isinstance(runner.train_loop, EpochBasedTrainLoop):
            done = runner.iter + 1 - runner.epoch * len(runner.train_dataloader)
            runner.message_hub.update_info(_PLACE, (done, len(runner.train_dataloader)))
        self.checkpoint.save_now(runner)
        self.saved = True

    def after_train(self, runner: Runner) -> None:
        """Listen no more."""
        signal.signal(signal.SIGTERM, self._before)


class _LeaveHook(Hook):
    """End the process once its hooks have seen the last step."""

    priority = 'LOWEST'

    def __init__(self, preemption: PreemptionHook) -> None:
        self.preemption = preemption

    def after_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: Any = None, outputs: Any = None
    ) -> None:
        if not self.preemption.saved:
            return
        print_log(
            f'SIGTERM: saved {self.preemption.checkpoint.last_ckpt}; --resume goes on from there',
            logger='current',
            level=logging.WARNING,
        )
        # torchrun ends all processes once one has ended, the one that saves among them.
        barrier()
        self.preemption.after_train(runner)
        raise SystemExit(STATUS)


class _RestOfEpoch(Sampler[list[int]]):
    """Batches of a batch sampler, in the first epoch without those that are done."""

    def __init__(self, batches: Any, done: int) -> None:
        self.batches, self.done = batches, done
        self.sampler, self.batch_size = batches.sampler, batches.batch_size

    def __len__(self) -> int:
        return len(self.batches)

    def __iter__(self) -> Iterator[list[int]]:
        done, self.done = self.done, 0
        return islice(iter(self.batches), done, None)


def _accumulated(runner: Runner) -> int:
    return int(getattr(runner.optim_wrapper, '_accumulative_counts', 1))
