"""Samplers that tell the dataset which epoch it is, through the index.

Workers never learn the epoch otherwise: a persistent worker keeps the copy of the dataset that it
was started with.
"""

from __future__ import annotations

from collections.abc import Iterator, Sized
from itertools import count, islice

import torch
from mmengine.dataset import DefaultSampler
from mmengine.registry import DATA_SAMPLERS


def _epoch_stride(dataset: Sized) -> int:
    """Return what one epoch adds to an index; refuse datasets that cannot decode it."""
    stride = getattr(dataset, 'epoch_stride', None)
    if stride is None:
        raise TypeError(
            'EpochSampler: expected a dataset with `epoch_stride` that decodes '
            f'index + epoch * epoch_stride, got {type(dataset).__name__}. Use RegionImageFolder, '
            'or DefaultSampler for this dataset.'
        )
    return int(stride)


@DATA_SAMPLERS.register_module()
class EpochSampler(DefaultSampler):
    """:class:`DefaultSampler` that yields ``index + epoch * len(dataset)``.

    With it, what a dataset draws at random is a pure function of (seed, epoch, image), whatever the
    number of workers or ranks, and after a resume. Works in epoch and iteration based loops, which
    both call ``set_epoch``.

    Args:
        dataset: Dataset with ``epoch_stride`` (its own length).
        shuffle: Another order in every epoch.
        seed: Seed of the order, equal on all ranks; None draws a common one.
        round_up: Repeat some images so that all ranks have the same number.

    Raises:
        TypeError: The dataset does not decode epochs.
    """

    def __init__(
        self,
        dataset: Sized,
        shuffle: bool = True,
        seed: int | None = None,
        round_up: bool = True,
    ) -> None:
        super().__init__(dataset, shuffle=shuffle, seed=seed, round_up=round_up)
        self.stride = _epoch_stride(dataset)

    def __iter__(self) -> Iterator[int]:
        """Iterate over this rank's share of the epoch."""
        offset = self.epoch * self.stride
        return (index + offset for index in super().__iter__())


@DATA_SAMPLERS.register_module()
class InfiniteEpochSampler(EpochSampler):
    """The stream of all epochs of :class:`EpochSampler`, one after the other without an end.

    For iteration based loops: workers are not restarted between epochs, no tail is dropped, a
    resume skips in no time (``skip``), and n ranks with batch b see the same global batches as
    one rank with batch n * b. Takes the arguments of :class:`EpochSampler` but ``round_up``.
    """

    def __init__(self, dataset: Sized, shuffle: bool = True, seed: int | None = None) -> None:
        super().__init__(dataset, shuffle=shuffle, seed=seed, round_up=False)
        self.start = 0

    def _stream(self) -> Iterator[int]:
        """Yield the indices of all ranks, from the epoch that holds this rank's start."""
        size = len(self.dataset)
        for epoch in count(self.start * self.world_size // size):
            generator = torch.Generator().manual_seed(self.seed + epoch)
            order = (
                torch.randperm(size, generator=generator) if self.shuffle else torch.arange(size)
            )
            yield from (order + epoch * self.stride).tolist()

    def __iter__(self) -> Iterator[int]:
        """Iterate over this rank's share, for ever."""
        skipped = self.start * self.world_size % len(self.dataset)
        return islice(self._stream(), skipped + self.rank, None, self.world_size)

    def skip(self, num_samples: int) -> None:
        """Start at this rank's sample ``num_samples``, counted from the start of training."""
        if num_samples < 0:
            raise ValueError(f'skip: expected num_samples >= 0, got {num_samples}.')
        self.start = num_samples

    def set_epoch(self, epoch: int) -> None:
        """Do nothing: the epoch is in the stream."""
