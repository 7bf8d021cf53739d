"""Stage 1: train the Refiner on a frozen encoder, without labels."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import torch
from mmengine.registry import MODELS
from torch import Tensor
from torch.nn import functional as F

from refineclip.encoders.weights.weights_hash import weights_hash

from .distillation_model import DistillationModel, select_regions
from .region_batch import RegionBatch
from .region_preprocessor import RegionPreprocessor, check_preprocessing
from .roi_ops import full_boxes, pool_tokens


@MODELS.register_module()
class RefinerTraining(DistillationModel):
    """Global-to-local refining: refined tokens of the image against frozen tokens of close-ups.

    The frozen trunk encodes the whole image, the Refiner finishes it, and RoIAlign pools its tokens
    at a box; the target is what the frozen encoder says of the resized crop of that box, pooled to
    the same grid. Only the Refiner learns.

    Paper: Refining CLIP's Spatial Awareness, arXiv 2504.02328. Two separate stages, a frozen
    encoder and self-supervision are known; this pipeline is inferred.

    Args:
        encoder: Config of a frozen :class:`RefinerCLIP` with ``refiner=dict(...)``.
        loss: Config of :class:`RefineLoss`.
        target: ``'crop'``, or ``'image'``: the frozen map's own tokens at the box, a control that
            shows what contrast alone brings without any close-up.
        area_range: Regions used, as shares of the image area. Not stated in the paper; the sampler
            decides by default.
        max_regions_per_image: Random draw of regions per image and step; ``None`` uses all. Not
            stated in the paper.
        min_initial_cosine: On the first iteration of a fresh run, the mean cosine of RoI tokens to
            crop tokens must reach this: a transposed axis or shifted box falls below it.
        cache_dir: Cache what the frozen encoder says here, see :class:`FeatureCache`.
        cache_features: ``('trunk', 'target')``, both by default. COCO at 448 px takes about 140 GB
            of trunk tokens with a B/16.
        data_preprocessor: Config of :class:`RegionPreprocessor`.

    Raises:
        ValueError: Without a Refiner, or on an unknown ``target``.
    """

    FEATURES: ClassVar = {'trunk': False, 'target': True}

    def __init__(
        self,
        encoder: dict,
        loss: dict,
        target: str = 'crop',
        area_range: tuple[float, float] = (0.0, 1.0),
        max_regions_per_image: int | None = None,
        min_initial_cosine: float | None = None,
        cache_dir: str | None = None,
        cache_features: Sequence[str] | None = None,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(data_preprocessor, cache_dir, cache_features, init_cfg)
        if target not in ('crop', 'image'):
            raise ValueError(f"target: expected 'crop' or 'image', got {target!r}")
        self.encoder = MODELS.build({**encoder, 'frozen': True})
        if self.encoder.refiner is None:
            raise ValueError('encoder: expected refiner=dict(num_blocks=...), got none')
        self.encoder.refiner.requires_grad_(True)
        self.refine_loss = MODELS.build(loss)
        if isinstance(self.data_preprocessor, RegionPreprocessor):
            check_preprocessing(self.data_preprocessor, self.encoder.visual)
        self.target = target
        self.area_range = area_range
        self.max_regions_per_image = max_regions_per_image
        self.min_initial_cosine = min_initial_cosine
        # Saved, so that a resumed run does not take a trained Refiner for an untrained one.
        self.register_buffer('initial_cosine', torch.tensor(float('nan')))

    def dense(self, images: Tensor) -> Tensor:
        """The refined map (B, D, h, w)."""
        return self.encoder.dense(images)

    def select(self, batch: RegionBatch) -> dict[str, Tensor]:
        """The regions of this step."""
        return {'refine': select_regions(batch, self.area_range, self.max_regions_per_image)}

    def loss(
        self, batch: RegionBatch, chosen: dict[str, Tensor], counts: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """Loss of the Refiner, and the mean cosine of its tokens to the targets."""
        frozen = self.frozen_features(batch)
        size, rows = self.refine_loss.roi_size, chosen['refine']
        grid = self._grid(batch)
        refined = self.encoder.embedding_map(
            self.encoder.refined_tokens(frozen['trunk'], grid), grid
        )
        boxes = batch.boxes[rows]
        tokens = pool_tokens(F.normalize(refined.float(), dim=1), boxes, size)
        target = frozen['target'][rows].to(tokens.dtype)
        loss = self.refine_loss(tokens, target, boxes[:, 0], avg_factor=counts['refine'])
        if len(rows) == 0:
            return {'loss_refine': loss}
        cosine = F.cosine_similarity(tokens.detach(), target, dim=-1).mean()
        self._check_initial_cosine(cosine)
        return {'loss_refine': loss, 'region_crop_cosine': cosine}

    def attend(self, device: torch.device) -> None:
        """Give no negatives."""
        shape = (0, self.refine_loss.roi_size**2, self.encoder.embed_dim)
        nothing = torch.zeros(shape, device=device)
        self.refine_loss(nothing, nothing, nothing.new_zeros(0))

    def frozen_features(self, batch: RegionBatch) -> dict[str, Tensor]:
        """``trunk`` (B, N, W) and ``target`` (R, L, D), without gradient, cached where asked."""
        trunk = self._frozen('trunk', batch, self._trunk, self._trunk_version)
        if self.target == 'image':
            target = self._pooled(trunk, self._grid(batch), batch.boxes)
        else:
            target = self._frozen('target', batch, self._crop_target, self._target_version)
        return {'trunk': trunk, 'target': target}

    def _trunk(self, batch: RegionBatch) -> Tensor:
        return self.encoder.trunk(batch.images)[0]

    def _trunk_version(self) -> dict:
        return dict(weights=weights_hash(self.encoder.visual), trunk_depth=self.encoder.trunk_depth)

    def _crop_target(self, batch: RegionBatch) -> Tensor:
        trunk, grid = self.encoder.trunk(batch.crops)
        boxes = full_boxes(len(trunk), trunk.device)
        boxes[:, 1:] = batch.crop_boxes
        return self._pooled(trunk, grid, boxes)

    def _target_version(self) -> dict:
        return dict(
            weights=weights_hash(self.encoder.visual),
            dense_mode=self.encoder.dense_mode,
            roi_size=self.refine_loss.roi_size,
        )

    @torch.no_grad()
    def _pooled(self, trunk: Tensor, grid: tuple[int, int], boxes: Tensor) -> Tensor:
        """What the frozen encoder makes of trunk tokens, L2-normalised and pooled: (R, L, D)."""
        tokens = self.encoder.plain_tokens(trunk, grid)
        source = F.normalize(self.encoder.embedding_map(tokens, grid).float(), dim=1)
        return pool_tokens(source, boxes, self.refine_loss.roi_size)

    def _grid(self, batch: RegionBatch) -> tuple[int, int]:
        patch = self.encoder.visual.patch_size
        return batch.images.shape[-2] // patch, batch.images.shape[-1] // patch

    def _check_initial_cosine(self, cosine: Tensor) -> None:
        if not self.initial_cosine.isnan():
            return
        self.initial_cosine.copy_(cosine)
        if self.min_initial_cosine is not None and cosine < self.min_initial_cosine:
            raise ValueError(
                'expected RoI tokens of the whole image to agree with tokens of the crops before '
                f'training (mean cosine >= {self.min_initial_cosine}), got {float(cosine):.3f}: '
                'check box coordinates, crop geometry and the weights'
            )
