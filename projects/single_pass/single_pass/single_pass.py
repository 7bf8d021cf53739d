"""Single pass: what windows say together, learnt by one pass over the whole image.

Paper: SPAR, Single-Pass Any-Resolution ViT for Open-vocabulary Segmentation, CVPR 2026, arXiv
2604.02252. Written from its description and from facts of its published code.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from mmengine.registry import MODELS
from torch import Tensor
from torch.nn import functional as F

from refineclip.distill.distillation_model import DistillationModel
from refineclip.distill.losses import shows_picture
from refineclip.distill.region_batch import RegionBatch
from refineclip.distill.region_preprocessor import RegionPreprocessor, check_preprocessing
from refineclip.encoders.weights.weights_hash import weights_hash

from .sliding_window import sliding_window_map, window_starts

REGRESSIONS = ('mse', 'cosine')


@MODELS.register_module()
class SinglePass(DistillationModel):
    """Regress the map of a sliding-window teacher, the same tower frozen, in one pass.

    No crop, no word, no region: where the Refiner learns how a region looks in a close-up, this
    student learns how every token looks in the windows around it.

    Args:
        student: Config of the :class:`RefinerCLIP` to train; the teacher is a frozen copy of it.
            The published code trains the last two blocks (``trainable_blocks=2``), and in a
            variant all.
        window_size: Side of the teacher's windows in pixels: the size the tower was trained at.
        stride: Pixels from one window to the next; 24 in the published code.
        regression: ``'mse'``, as published: mean squared difference of embeddings as they are; or
            ``'cosine'``.
        sizes: Canvases in pixels that the student is trained at, one drawn per step; None trains at
            the preprocessor's. Images are resized to them.
        teacher_scale: The teacher sees the image so many times larger than the student, and its map
            is averaged down to the student's grid. 1, as published.
        max_windows: Windows that run together.
        loss_weight: Factor on the loss.
        cache_dir: Cache the teacher's maps here, see :class:`FeatureCache`.
        cache_features: ``('map',)``, the default.
        data_preprocessor: Config of :class:`RegionPreprocessor`.

    Raises:
        ValueError: On an unknown regression, a size or window that does not fit the patch or the
            canvas, a Refiner, or a cache with several sizes.
    """

    FEATURES: ClassVar = {'map': False}

    def __init__(
        self,
        student: dict,
        window_size: int,
        stride: int = 24,
        regression: str = 'mse',
        sizes: Sequence[int] | None = None,
        teacher_scale: float = 1.0,
        max_windows: int = 64,
        loss_weight: float = 1.0,
        cache_dir: str | None = None,
        cache_features: Sequence[str] | None = None,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(data_preprocessor, cache_dir, cache_features, init_cfg)
        if regression not in REGRESSIONS:
            raise ValueError(f'regression: expected one of {REGRESSIONS}, got {regression!r}')
        if student.get('refiner') is not None:
            raise ValueError('student: expected one without a Refiner, got refiner=dict(...)')
        if cache_dir is not None and sizes is not None and len(sizes) > 1:
            raise ValueError(
                f'cache_dir: expected one size, because one is drawn anew in each step, got {sizes}'
            )
        self.student = MODELS.build({**student, 'frozen': False})
        self.teacher = MODELS.build({**student, 'frozen': True})
        self.teacher.visual.load_state_dict(self.student.visual.state_dict())
        self.window_size, self.stride, self.regression = window_size, stride, regression
        self.sizes = None if sizes is None else tuple(sizes)
        self.teacher_scale = teacher_scale
        self.max_windows = max_windows
        self.loss_weight = loss_weight
        if isinstance(self.data_preprocessor, RegionPreprocessor):
            check_preprocessing(self.data_preprocessor, self.student.visual)
            canvas = self.data_preprocessor.image_size
            for size in [canvas] if self.sizes is None else [(s, s) for s in self.sizes]:
                self._check_size(size)

    def _check_size(self, size: tuple[int, int]) -> None:
        patch = self.student.visual.patch_size
        seen = tuple(round(side * self.teacher_scale) for side in size)
        for name, sides in (('sizes', size), ('sizes x teacher_scale', seen)):
            if any(side < 1 or side % patch for side in sides):
                raise ValueError(f'{name}: expected multiples of the patch {patch}, got {sides}')
        if self.window_size % patch:
            raise ValueError(
                f'window_size: expected a multiple of the patch {patch}, got {self.window_size}'
            )
        for side in seen:
            window_starts(side, self.window_size, self.stride)

    def dense(self, images: Tensor) -> Tensor:
        """The student's map (B, D, h, w)."""
        return self.student.dense(images)

    def select(self, batch: RegionBatch) -> dict[str, Tensor]:
        """Every image; regions are not looked at."""
        return {'images': torch.arange(len(batch), device=batch.boxes.device)}

    def loss(
        self, batch: RegionBatch, chosen: dict[str, Tensor], counts: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """``loss_regression``, and the cosine of the student's tokens to the teacher's."""
        size = self._draw_size(batch)
        target = self._frozen('map', batch, lambda b: self._windows(b, size), self._map_version)
        student = self.student.dense(_resized(batch.images, size)).float()
        target = target.to(student.dtype)
        cosine = F.cosine_similarity(student, target, dim=1).flatten(1)  # (B, h * w)
        per_token = 1 - cosine
        if self.regression == 'mse':
            per_token = (student - target).square().mean(dim=1).flatten(1)
        valid = shows_picture(batch.pictures, (student.shape[2], student.shape[3]))
        share = torch.ones_like(cosine) if valid is None else valid.to(cosine.dtype)
        share = share / share.sum(dim=1, keepdim=True).clamp(min=1)
        return {
            'loss_regression': self.loss_weight * (per_token * share).sum() / counts['images'],
            'cosine_to_windows': (cosine.detach() * share).sum() / len(batch),
        }

    def _draw_size(self, batch: RegionBatch) -> tuple[int, int]:
        """Canvas (H, W) of this step's student."""
        if self.sizes is None:
            return batch.images.shape[2], batch.images.shape[3]
        # Drawn on the CPU: DistillationModel seeds that generator per iteration.
        side = self.sizes[int(torch.randint(len(self.sizes), ()))]
        return side, side

    def _windows(self, batch: RegionBatch, size: tuple[int, int]) -> Tensor:
        """The teacher's map on the student's grid, (B, D, h, w)."""
        seen = round(size[0] * self.teacher_scale), round(size[1] * self.teacher_scale)
        patch = self.teacher.visual.patch_size
        maps = sliding_window_map(
            self.teacher.dense,
            _resized(batch.images, seen),
            self.window_size,
            self.stride,
            patch,
            self.max_windows,
        )
        return F.adaptive_avg_pool2d(maps, (size[0] // patch, size[1] // patch))

    def _map_version(self) -> dict:
        return dict(
            weights=weights_hash(self.teacher.visual),
            dense_mode=self.teacher.dense_mode,
            window_size=self.window_size,
            stride=self.stride,
            sizes=self.sizes,
            teacher_scale=self.teacher_scale,
        )


def _resized(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Images (B, 3, H, W) at another size; themselves where it is theirs."""
    if tuple(images.shape[2:]) == size:
        return images
    return F.interpolate(images, size, mode='bicubic', antialias=True)
