"""Stage 2: align regions with language, and keep (or sharpen) the spatial structure meanwhile."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from mmengine.logging import print_log
from mmengine.registry import MODELS
from torch import Tensor, nn
from torch.nn import functional as F

from refineclip.encoders.text.text_head import TextHead
from refineclip.encoders.weights.weights_hash import weights_hash

from .distillation_model import DistillationModel, select_regions
from .losses.scd_loss import SCDLoss
from .region_batch import RegionBatch
from .region_preprocessor import RegionPreprocessor, check_preprocessing
from .roi_ops import pool_regions
from .teacher_view import as_seen_by

# method: (region-language alignment, spatial correlation distillation, refined SCD target)
METHODS = {
    'rla': (True, False, False),
    'sc-rla': (True, True, False),
    'r-sc-rla': (True, True, True),
    'r-sc-v': (False, True, True),
}


@MODELS.register_module()
class RegionAlignment(DistillationModel):
    """Fine-tune a dense encoder against a frozen copy of itself.

    ``method`` turns the one configuration into each member of the family: ``'rla'`` (alignment
    only), ``'sc-rla'`` (+ SCD against the frozen encoder), ``'r-sc-rla'`` (+ SCD against its
    Refiner), ``'r-sc-v'`` (only SCD against the Refiner: vision-only). The frozen trunk runs once
    per image and serves the plain and the refined target.

    Paper: Refining CLIP's Spatial Awareness, arXiv 2504.02328:
    ``L = L_RLA + lambda * L_SCD`` (form inferred).

    Args:
        student: Config of the :class:`RefinerCLIP` to train, ``frozen=False``. The teacher is a
            frozen copy of it.
        method: One of ``'rla'``, ``'sc-rla'``, ``'r-sc-rla'``, ``'r-sc-v'``.
        rla: Config of :class:`CLIPSelfLoss` or :class:`RegionTextLoss`.
        scd: Config of :class:`SCDLoss`.
        refiner: ``dict(num_blocks=..., checkpoint=...)``: what stage 1 trained.
        scd_teacher: Config of another frozen :class:`RefinerCLIP` whose dense map is the SCD target
            instead (DINOv3, PE-Spatial, RADIO, TIPSv2). Patch size, width and normalisation may
            differ: it sees the same pixels, resized so that both maps have one grid.
        text_head: File of a :class:`TextHead`; alignment then compares features standardised with
            its statistics (towers that no text encoder was trained with).
        scd_area_range: Regions that SCD uses, as shares of the image area. Not stated in the paper;
            all of RLA's regions.
        scd_max_regions: Random draw of regions per image for SCD. Not stated in the paper.
        retention: Config of :class:`RetentionLoss`: holds the image embedding of the whole image,
            at the size of the crops, to the teacher's. Not in the paper; None leaves it out.
        cache_dir: Cache what the frozen teacher says here, see :class:`FeatureCache`.
        cache_features: ``('map', 'crops')``, both by default. For COCO ``('crops',)`` is the one to
            take: six epochs of drawn grids are 9 GB with a B/16, the maps at 1024 px 500 GB.
        data_preprocessor: Config of :class:`RegionPreprocessor`.

    Raises:
        ValueError: On an unknown method, or when the method needs a part that is not configured.
    """

    FEATURES: ClassVar = {'map': False, 'crops': True}

    def __init__(
        self,
        student: dict,
        method: str = 'r-sc-rla',
        rla: dict | None = None,
        scd: dict | None = None,
        refiner: dict | None = None,
        scd_teacher: dict | None = None,
        text_head: str | None = None,
        scd_area_range: tuple[float, float] = (0.0, 1.0),
        scd_max_regions: int | None = None,
        retention: dict | None = None,
        cache_dir: str | None = None,
        cache_features: Sequence[str] | None = None,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(data_preprocessor, cache_dir, cache_features, init_cfg)
        if method not in METHODS:
            raise ValueError(f'method: expected one of {sorted(METHODS)}, got {method!r}')
        use_rla, use_scd, use_refiner = METHODS[method]
        use_refiner = use_refiner and scd_teacher is None
        for name, used, value in [
            ('rla', use_rla, rla),
            ('scd', use_scd, scd),
            ('refiner', use_refiner, refiner),
        ]:
            if used and value is None:
                raise ValueError(f'method {method!r} needs {name}=dict(...), got None')
        self.method = method
        self.student = MODELS.build({**student, 'frozen': False})
        self.teacher = MODELS.build(
            {**student, 'frozen': True, 'refiner': refiner if use_refiner else None}
        )
        self.teacher.visual.load_state_dict(self.student.visual.state_dict())
        if use_refiner and not (refiner or {}).get('checkpoint'):
            self.teacher.refiner.copy_from(self.teacher.visual)
            print_log(
                f'method {method!r} without refiner.checkpoint: the Refiner equals the encoder, so '
                'its target is that of plain SCD. Train it first (RefinerTraining).',
                logger='current',
                level=logging.WARNING,
            )
        self.scd_teacher = (
            MODELS.build({**scd_teacher, 'frozen': True}) if use_scd and scd_teacher else None
        )
        self.rla = MODELS.build(rla) if use_rla else None
        self.scd = MODELS.build(scd) if use_scd else None
        self.retention = None if retention is None else MODELS.build(retention)
        self.text_head = None if text_head is None else TextHead.load(text_head)
        if text_head is not None and not self.needs_crops:
            raise ValueError(
                'text_head standardises features against crop embeddings: expected it with '
                f'CLIPSelfLoss, got method {method!r} with rla={rla and rla["type"]}'
            )
        text = getattr(self.rla, 'text', None)
        if text is not None and text.shape[1] != self.student.embed_dim:
            raise ValueError(
                f'rla.text_embeddings: expected {self.student.embed_dim} columns, the embedding of '
                f'the student, got {text.shape[1]}'
            )
        if self.scd is not None and self.rla is None and self.scd.start > 0:
            raise ValueError(
                f'scd.start: expected 0 with method {method!r}, which trains with SCD alone and '
                f'would not learn before; got {self.scd.start}'
            )
        self.scd_area_range = scd_area_range
        self.scd_max_regions = scd_max_regions
        if isinstance(self.data_preprocessor, RegionPreprocessor):
            check_preprocessing(self.data_preprocessor, self.student.visual)

    @property
    def needs_crops(self) -> bool:
        """Whether the teacher looks at crops."""
        return self.rla is not None and self.rla.needs_crops

    def dense(self, images: Tensor) -> Tensor:
        """The student's map (B, D, h, w)."""
        return self.student.dense(images)

    def select(self, batch: RegionBatch) -> dict[str, Tensor]:
        """All regions for alignment, those of ``scd_area_range`` for SCD."""
        chosen = {}
        if self.rla is not None:
            chosen['rla'] = torch.arange(batch.num_regions, device=batch.boxes.device)
        if self.scd is not None:
            chosen['scd'] = select_regions(batch, self.scd_area_range, self.scd_max_regions)
        if self.retention is not None:  # one region each: the whole image
            chosen['retention'] = torch.arange(len(batch), device=batch.boxes.device)
        return chosen

    def loss(
        self, batch: RegionBatch, chosen: dict[str, Tensor], counts: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """The configured losses and the cosine of student regions to the teacher's crops."""
        targets = self.teacher_features(batch)
        student_map = self.student.dense(batch.images).float()  # losses are not for half
        losses: dict[str, Tensor] = {}
        if self.rla is not None:
            losses |= self._rla_loss(self.rla, student_map, targets, batch, counts['rla'])
        if self.scd is not None:
            losses |= self._scd_loss(
                self.scd, student_map, targets.get('map'), batch.boxes[chosen['scd']], counts['scd']
            )
        if self.retention is not None:
            losses['loss_retention'] = self.retention(
                self.student.image_embedding(batch.whole), targets['whole'], counts['retention']
            )
        return losses

    def attend(self, device: torch.device) -> None:
        """Name no noun, where the nouns of all regions are drawn together."""
        if self.rla is not None and not self.needs_crops:
            nothing = torch.zeros((0, self.student.embed_dim), device=device)
            self.rla(nothing, torch.zeros(0, dtype=torch.long, device=device))

    def _rla_loss(
        self,
        rla: nn.Module,
        student_map: Tensor,
        targets: dict[str, Tensor],
        batch: RegionBatch,
        count: Tensor,
    ) -> dict[str, Tensor]:
        if self.text_head is None:
            student_map = F.normalize(student_map, dim=1)
        regions = pool_regions(student_map, batch.boxes, 1).flatten(1)
        if not self.needs_crops:
            return {'loss_rla': rla(regions, batch.labels, avg_factor=count)}
        crops = targets['crops'].to(regions.dtype)
        if self.text_head is not None:
            regions, crops = self.text_head.standardize(regions), self.text_head.standardize(crops)
        loss = rla(regions, crops, avg_factor=count)
        if len(regions) == 0:
            return {'loss_rla': loss}
        cosine = F.cosine_similarity(regions.detach(), crops, dim=-1).mean()
        return {'loss_rla': loss, 'region_crop_cosine': cosine}

    @staticmethod
    def _scd_loss(
        scd: SCDLoss, student_map: Tensor, target_map: Tensor | None, boxes: Tensor, count: Tensor
    ) -> dict[str, Tensor]:
        loss = None
        if target_map is not None:
            loss = scd.of_maps(student_map, target_map, boxes, avg_factor=count)
        return scd.logged(loss, boxes.device)

    def teacher_features(self, batch: RegionBatch) -> dict[str, Tensor]:
        """``map`` (B, D, h, w) for SCD and ``crops`` (R, D) for RLA, cached where asked.

        And ``whole`` (B, D) for retention, which costs too little to be cached. Without ``map``
        before the start of SCD.
        """
        features: dict[str, Tensor] = {}
        if self.scd is not None and self.scd.started:
            features['map'] = self._frozen('map', batch, self._target_map, self._map_version)
        if self.needs_crops:
            features['crops'] = self._frozen('crops', batch, self._crops, self._crops_version)
        if self.retention is not None:
            features['whole'] = self._frozen('whole', batch, self._whole, self._crops_version)
        return features

    def _target_map(self, batch: RegionBatch) -> Tensor:
        if self.scd_teacher is None:
            return self.teacher.dense(batch.images)
        view = as_seen_by(self.scd_teacher.visual, batch.images, **self._student_view())
        return self.scd_teacher.dense(view)

    def _student_view(self) -> dict[str, Any]:
        """How the student's images are normalised, in [0, 1], and its patch."""
        visual = self.student.visual
        view = dict(mean=visual.image_mean, std=visual.image_std, patch_size=visual.patch_size)
        if isinstance(self.data_preprocessor, RegionPreprocessor):
            for key, values in self.data_preprocessor.normalization.items():
                view[key] = tuple(value / 255 for value in values)
        return view

    def _map_version(self) -> dict:
        source = self.scd_teacher or self.teacher
        version = dict(
            weights=weights_hash(source),
            dense_mode=source.dense_mode,
            refiner_input=source.refiner and source.refiner.input,
        )
        return version if self.scd_teacher is None else {**version, 'view': self._student_view()}

    def _crops(self, batch: RegionBatch) -> Tensor:
        return self.teacher.image_embedding(batch.crops)

    def _whole(self, batch: RegionBatch) -> Tensor:
        return self.teacher.image_embedding(batch.whole)

    def _crops_version(self) -> dict:
        # The Refiner has no say in image embeddings: methods share this cache.
        return dict(weights=weights_hash(self.teacher.visual))
