"""DenseRC: crops teach the gated value map its language, a vision model its correlations.

Paper: Reconstructing CLIP for Open-Vocabulary Dense Perception, CVPR 2026. Written from notes on
it; no code was published when this was written.
"""

from __future__ import annotations

from typing import Any

import torch
from mmengine.registry import MODELS
from torch import Tensor

from refineclip.distill.losses import CorrelationLoss
from refineclip.distill.region_alignment import RegionAlignment
from refineclip.distill.region_batch import RegionBatch

from .gated_values import GATE


@MODELS.register_module()
class DenseRC(RegionAlignment):
    """Crop cosine and correlation with a vision model, on one gated value map.

    Differs from its parent, of which it is the method ``'sc-rla'``, in the dense map (the mode of
    the student) and in the spatial term: the squared difference of cosines between all tokens of an
    image, not within regions, taken in the joint embedding space. Which space the published term is
    taken in is not stated in the notes.

    Args:
        student: Config of the :class:`RefinerCLIP`, with ``dense_mode='gated-values'`` or
            ``'gated-values-residual'``.
        rla: Config of :class:`CLIPSelfLoss`: region against the class embedding of its crop.
        correlation: Config of :class:`CorrelationLoss`; ``distance='mse', loss_weight=0.025`` in
            the notes.
        vision_model: Config of a frozen :class:`RefinerCLIP` whose map gives the correlations:
            DINOv2 in the notes, any tower here. It sees the same pixels at the size that gives both
            as many tokens.
        kwargs: ``text_head``, ``retention``, ``cache_dir``, ``cache_features`` and
            ``data_preprocessor`` of :class:`RegionAlignment`.

    Raises:
        ValueError: If the student's dense mode has no gate, or the student has a Refiner.
        TypeError: If ``correlation`` is no :class:`CorrelationLoss`.
    """

    def __init__(
        self, student: dict, rla: dict, correlation: dict, vision_model: dict, **kwargs: Any
    ) -> None:
        if student.get('refiner') is not None:
            raise ValueError('student: expected one without a Refiner, got refiner=dict(...)')
        super().__init__(
            student, 'sc-rla', rla=rla, scd=correlation, scd_teacher=vision_model, **kwargs
        )
        if not hasattr(self.student.visual.blocks[-1], GATE):
            raise ValueError(
                "student.dense_mode: expected 'gated-values' or 'gated-values-residual', got "
                f'{self.student.dense_mode!r}'
            )
        if not isinstance(self.scd, CorrelationLoss):
            raise TypeError(
                f'correlation: expected a CorrelationLoss, got {type(self.scd).__name__}'
            )

    def select(self, batch: RegionBatch) -> dict[str, Tensor]:
        """All regions for crops, and every image for correlations."""
        images = torch.arange(len(batch), device=batch.boxes.device)
        regions = torch.arange(batch.num_regions, device=batch.boxes.device)
        chosen = {'rla': regions, 'scd': images}
        return chosen if self.retention is None else {**chosen, 'retention': images}

    def loss(
        self, batch: RegionBatch, chosen: dict[str, Tensor], counts: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """``loss_rla`` against crops and ``loss_scd``, the correlations, of one map."""
        assert self.rla is not None
        assert self.scd is not None
        targets = self.teacher_features(batch)
        student_map = self.student.dense(batch.images).float()
        losses = self._rla_loss(self.rla, student_map, targets, batch, counts['rla'])
        loss = None
        if 'map' in targets:  # the term has set in
            loss = self.scd.of_maps(student_map, targets['map'], batch.pictures, counts['scd'])
        losses |= self.scd.logged(loss, batch.images.device)
        if self.retention is not None:
            losses['loss_retention'] = self.retention(
                self.student.image_embedding(batch.whole), targets['whole'], counts['retention']
            )
        return losses
