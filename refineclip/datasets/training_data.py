"""What training would learn from, counted before it begins."""

from __future__ import annotations

from typing import Any

from mmengine.dataset import InfiniteSampler
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from refineclip.datasets.samplers import InfiniteEpochSampler


def check_batches(loader: Any) -> None:
    """Refuse a training loader that gives no batch: epochs would pass and save without a step.

    Args:
        loader: The DataLoader of a process.

    Raises:
        ValueError: There are fewer images than a batch holds, under ``drop_last``, or none.
    """
    # Beside a batch sampler of its own, a loader's ``sampler`` is one that nobody asks.
    sampler = getattr(loader.batch_sampler, 'sampler', loader.sampler)
    # Infinite samplers fill a batch with the next epoch.
    if isinstance(sampler, InfiniteSampler | InfiniteEpochSampler) or len(loader) > 0:
        return
    images, own = len(loader.dataset), len(sampler)
    size = loader.batch_sampler.batch_size
    raise ValueError(
        f'train_dataloader: expected one batch of {size} images or more per process, got {own} '
        f'images per process ({images} in all), of which drop_last=True leaves none: nothing would '
        'be trained; lower train_dataloader.batch_size, set drop_last=False, or give more images'
    )


def check_length(loop: Any) -> None:
    """Refuse a training of no iteration or epoch, which would end well and have done nothing.

    Args:
        loop: mmengine's loop of epochs or of iterations.

    Raises:
        ValueError: ``max_epochs`` or ``max_iters`` is below 1.
    """
    # Of the loop of epochs, ``max_iters`` are those of all epochs; of the other, epochs are 1.
    if min(loop.max_epochs, loop.max_iters) < 1:
        raise ValueError(
            f'train_cfg: expected max_iters or max_epochs of 1 or more, got '
            f'max_epochs={loop.max_epochs}, max_iters={loop.max_iters}; nothing would be trained'
        )


@HOOKS.register_module()
class TrainingDataHook(Hook):
    """Call :func:`check_batches` before training; ``tools/train.py`` does so even earlier."""

    def before_train(self, runner: Any) -> None:
        """Check the loader of this process."""
        check_batches(runner.train_dataloader)
