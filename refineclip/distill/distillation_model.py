"""What both training stages share: dispatch, region counting, and refusing a non-finite loss."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import ClassVar

import torch
from mmengine.dist import get_rank
from mmengine.logging import MessageHub
from mmengine.model import BaseModel
from torch import Tensor

from refineclip.encoders.weights.checkpoint_guard import require_whole_checkpoint

from .feature_cache import FeatureCache
from .processes import mean_over_processes
from .region_batch import RegionBatch


class NonFiniteLossError(RuntimeError):
    """A loss became NaN or infinite; raised before the step that would spoil the weights."""


def check_finite(losses: dict[str, Tensor], img_paths: list[str]) -> None:
    """Raise :class:`NonFiniteLossError` with iteration, loss parts and images, if one is not."""
    values = torch.stack([value.detach().float() for value in losses.values()])
    if values.isfinite().all():  # one wait for the device, however many losses
        return
    iteration = MessageHub.get_current_instance().get_info('iter', 0)
    named = zip(losses, values.tolist(), strict=True)
    parts = ', '.join(f'{name} = {value:g}' for name, value in named)
    raise NonFiniteLossError(
        f'expected finite losses, got {parts} at iteration {iteration} on images {img_paths}; the '
        'last checkpoint is untouched. Lower the learning rate or the loss scale, or use bfloat16.'
    )


@contextmanager
def draws_of_iteration() -> Iterator[None]:
    """Make CPU random draws a pure function of the run's seed, the iteration and the process.

    So a resumed run draws what the uninterrupted one would have drawn, with no state to save, and
    no process draws what another one draws.
    """
    iteration = MessageHub.get_current_instance().get_info('iter', 0)
    # A large prime apart, and within the 32 bits that PyTorch's CPU generator takes of a seed.
    seed = (torch.initial_seed() * 1_000_003 + iteration + get_rank() * 998_244_353) % 2**63
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(seed)
        yield


class DistillationModel(BaseModel):
    """Base of the two stages: ``loss`` trains, ``predict`` and ``tensor`` return dense maps.

    Args:
        data_preprocessor: Config of :class:`RegionPreprocessor`.
        cache_dir: Folder of :class:`FeatureCache`; None caches nothing.
        cache_features: Which of the stage's :attr:`FEATURES` are cached there; None all.

    Attributes:
        FEATURES: What the frozen side computes: ``{name: has one row per region}``.

    Raises:
        ValueError: On an unknown feature, or one of images whose canvas changes with the batch.
    """

    FEATURES: ClassVar[dict[str, bool]] = {}

    def __init__(
        self,
        data_preprocessor: dict | None = None,
        cache_dir: str | None = None,
        cache_features: Sequence[str] | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(data_preprocessor, init_cfg)
        require_whole_checkpoint(self)
        self.cache_dir = cache_dir
        self.cache_features = tuple(self.FEATURES if cache_features is None else cache_features)
        self._caches: dict[str, FeatureCache] = {}
        unknown = set(self.cache_features) - set(self.FEATURES)
        if unknown:
            raise ValueError(
                f'cache_features: expected names out of {list(self.FEATURES)}, got {unknown}'
            )
        of_images = [name for name in self.cache_features if not self.FEATURES[name]]
        if cache_dir and of_images and getattr(self.data_preprocessor, 'pad_size_divisor', None):
            raise ValueError(
                f'cache_features: {of_images} depend on the canvas, which pad_size_divisor fits to '
                'each batch; cache features of regions only, or leave pad_size_divisor None'
            )

    def _frozen(
        self,
        name: str,
        batch: RegionBatch,
        compute: Callable[[RegionBatch], Tensor],
        version: Callable[[], dict],
    ) -> Tensor:
        """A feature of the frozen side, from disk where ``cache_dir`` holds it.

        Args:
            name: One of :attr:`FEATURES`.
            batch: The batch.
            compute: Maps a (sub-)batch to the feature.
            version: All that decides the feature besides pixels and boxes; asked for once.
        """

        def without_gradient(part: RegionBatch) -> Tensor:
            with torch.inference_mode():
                feature = compute(part)
            # Inference tensors cannot be saved for backward; their copies can.
            return feature.clone()

        if self.cache_dir is None or name not in self.cache_features:
            return without_gradient(batch)
        if name not in self._caches:
            described = dict(version(), preprocessing=self.data_preprocessor.description)
            self._caches[name] = FeatureCache(
                self.cache_dir, name, described, per_region=self.FEATURES[name]
            )
        return self._caches[name].fetch(batch, without_gradient)

    def forward(
        self, inputs: RegionBatch, mode: str = 'tensor'
    ) -> dict[str, Tensor] | list[dict[str, Tensor | None]] | Tensor:
        """Run one mode of mmengine's model protocol.

        Returns:
            ``'loss'``: scalars by name; ``'predict'``: one dict per image, its ``map`` (D, h, w)
            and ``picture`` (4,), the xyxy rectangle of the picture on the canvas in [0, 1], which
            evaluation needs where there is padding; ``'tensor'``: maps (B, D, h, w).
        """
        if mode == 'tensor':
            return self.dense(inputs.images)
        if mode == 'predict':
            maps = self.dense(inputs.images)
            pictures = [None] * len(maps) if inputs.pictures is None else list(inputs.pictures)
            return [dict(map=m, picture=p) for m, p in zip(maps, pictures, strict=True)]
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
                self.attend(inputs.boxes.device)
                return {'loss_empty_batch': self.zero_loss()}
            losses = self.loss(inputs, chosen, counts)
        check_finite(losses, inputs.img_paths)
        return losses

    def zero_loss(self) -> Tensor:
        """Zero, connected to every trainable parameter: a batch without an image trains nothing."""
        return sum(p.sum() for p in self.parameters() if p.requires_grad) * 0.0

    def attend(self, device: torch.device) -> None:
        """Take part, without an image, in what the losses of other processes exchange."""

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
