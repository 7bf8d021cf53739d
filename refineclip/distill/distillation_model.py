"""What both training stages share: dispatch, region counting, and refusing a non-finite loss."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from mmengine.dist import all_reduce
from mmengine.logging import MessageHub
from mmengine.model import BaseModel
from torch import Tensor

from .region_batch import RegionBatch


class NonFiniteLossError(RuntimeError):
    """A loss became NaN or infinite; raised before the step that would spoil the weights."""


def mean_over_processes(count: int, device: torch.device) -> Tensor:
    """Mean of a count over all processes, at least 1, so that each region weighs the same."""
    total = torch.tensor(float(count), device=device)
    all_reduce(total, op='mean')
    return total.clamp(min=1.0)


def check_finite(losses: dict[str, Tensor], img_paths: list[str]) -> None:
    """Raise :class:`NonFiniteLossError` with iteration, loss parts and images, if one is not."""
    values = {name: float(value.detach()) for name, value in losses.items()}
    if all(torch.isfinite(torch.tensor(list(values.values())))):
        return
    iteration = MessageHub.get_current_instance().get_info('iter', 0)
    parts = ', '.join(f'{name} = {value:g}' for name, value in values.items())
    raise NonFiniteLossError(
        f'expected finite losses, got {parts} at iteration {iteration} on images {img_paths}; the '
        'last checkpoint is untouched. Lower the learning rate or the loss scale, or use bfloat16.'
    )


@contextmanager
def draws_of_iteration() -> Iterator[None]:
    """Make CPU random draws a pure function of the run's seed and the iteration.

    So a resumed run draws what the uninterrupted one would have drawn, with no state to save.
    """
    iteration = MessageHub.get_current_instance().get_info('iter', 0)
    seed = (torch.initial_seed() * 1_000_003 + iteration) % 2**63
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(seed)
        yield


class DistillationModel(BaseModel):
    """Base of the two stages: ``loss`` trains, ``predict`` and ``tensor`` return dense maps."""

    def forward(
        self, inputs: RegionBatch, mode: str = 'tensor'
    ) -> dict[str, Tensor] | list[Tensor] | Tensor:
        """Run one mode of mmengine's model protocol.

        Returns:
            ``'loss'``: scalars by name; ``'predict'``: one map (D, h, w) per image; ``'tensor'``:
            maps (B, D, h, w).
        """
        if mode == 'tensor':
            return self.dense(inputs.images)
        if mode == 'predict':
            return list(self.dense(inputs.images))
        if mode != 'loss':
            raise ValueError(f"mode: expected 'loss', 'predict' or 'tensor', got {mode!r}")
        with draws_of_iteration():
            chosen = self.select(inputs)
            # Collective, so a process whose images were all unusable takes part as well.
            counts = {
                name: mean_over_processes(len(regions), inputs.boxes.device)
                for name, regions in chosen.items()
            }
            if len(inputs) == 0:
                return {'loss_empty_batch': self.zero_loss()}
            losses = self.loss(inputs, chosen, counts)
        check_finite(losses, inputs.img_paths)
        return losses

    def zero_loss(self) -> Tensor:
        """Zero, connected to every trainable parameter: a batch without an image trains nothing."""
        return sum(p.sum() for p in self.parameters() if p.requires_grad) * 0.0

    @abstractmethod
    def select(self, batch: RegionBatch) -> dict[str, Tensor]:
        """Indices (R',) of the regions that each term looks at, by the term's name."""

    @abstractmethod
    def loss(
        self, batch: RegionBatch, chosen: dict[str, Tensor], counts: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """Losses by name of a batch with at least one image.

        Args:
            batch: The batch.
            chosen: What :meth:`select` returned.
            counts: Mean number of chosen regions over processes, by term: the divisor of its sum.
        """

    @abstractmethod
    def dense(self, images: Tensor) -> Tensor:
        """The dense map (B, D, h, w) that this stage trains."""


def select_regions(
    batch: RegionBatch, area_range: tuple[float, float], max_per_image: int | None
) -> Tensor:
    """Indices of regions whose area is in a range, at most so many per image.

    Args:
        batch: Regions of a batch.
        area_range: Lowest and highest area, as a share of the original image.
        max_per_image: Keep a random draw of so many regions per image; ``None`` keeps all.

    Returns:
        Sorted indices (R',).
    """
    x1, y1, x2, y2 = batch.regions.unbind(dim=1)
    area = (x2 - x1) * (y2 - y1)
    keep = (area >= area_range[0] - 1e-6) & (area <= area_range[1] + 1e-6)
    if max_per_image is None or not keep.any():
        return keep.nonzero().flatten()
    owner = batch.boxes[:, 0]
    picks = []
    for image in owner.unique():
        of_image = (keep & (owner == image)).nonzero().flatten()
        # Drawn on the CPU, see draws_of_iteration.
        picks.append(of_image[torch.randperm(len(of_image))[:max_per_image].to(of_image.device)])
    return torch.cat(picks).sort().values
