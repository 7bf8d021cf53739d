"""Batches of images of similar shape, so that a fitted canvas pads little."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Iterator, Sequence
from typing import Any

from mmengine.registry import DATA_SAMPLERS
from torch.utils.data import BatchSampler, Sampler


@DATA_SAMPLERS.register_module()
class SimilarShapeBatchSampler(BatchSampler):
    """Fill every batch with images of one range of aspect ratios.

    With ``RegionPreprocessor(pad_size_divisor=patch)``, which cuts a canvas down to what its batch
    covers: padding a 4:3 photo to a square is a quarter of all tokens. mmdet's
    ``AspectRatioBatchSampler`` does the same for detectors; this one needs no mmcv, knows indices
    that carry an epoch, and takes more than two groups.

    In the runner's config it takes the place of ``batch_size``'s own: ``batch_sampler=dict(
    type='SimilarShapeBatchSampler')`` in ``train_dataloader``.

    Args:
        sampler: Yields indices of a dataset with ``aspect_ratio(index)`` (width / height).
        batch_size: Images per batch.
        drop_last: Drop what does not fill a batch at the end; otherwise it is batched across
            groups.
        boundaries: Increasing aspect ratios that part the groups; ``(1,)`` parts portrait from
            landscape, as mmdet does.

    Raises:
        TypeError: The dataset knows no aspect ratios.
        ValueError: ``boundaries`` do not increase.
    """

    def __init__(
        self,
        sampler: Sampler[int],
        batch_size: int,
        drop_last: bool = False,
        boundaries: Sequence[float] = (1.0,),
    ) -> None:
        super().__init__(sampler, batch_size, drop_last)
        dataset = getattr(sampler, 'dataset', None)
        if not hasattr(dataset, 'aspect_ratio'):
            raise TypeError(
                'SimilarShapeBatchSampler: expected a sampler over a dataset with aspect_ratio('
                f'index), such as RegionImageFolder, got {type(dataset).__name__}'
            )
        if list(boundaries) != sorted(set(boundaries)):
            raise ValueError(f'boundaries: expected increasing ratios, got {tuple(boundaries)}')
        self.dataset: Any = dataset
        self.boundaries = tuple(boundaries)

    def __iter__(self) -> Iterator[list[int]]:
        """Yield batches as groups fill; what is left at the end is batched together."""
        groups: list[list[int]] = [[] for _ in range(len(self.boundaries) + 1)]
        for index in self.sampler:
            group = groups[bisect(self.boundaries, self.dataset.aspect_ratio(index))]
            group.append(index)
            if len(group) == self.batch_size:
                yield group.copy()
                group.clear()
        rest = [index for group in groups for index in group]
        for start in range(0, len(rest), self.batch_size):
            batch = rest[start : start + self.batch_size]
            if len(batch) == self.batch_size or not self.drop_last:
                yield batch
