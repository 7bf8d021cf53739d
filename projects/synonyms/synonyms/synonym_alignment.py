"""Alignment with crops, and with several names of one class.

Paper: SynCLIP, CVPR 2026, arXiv 2607.11008. Written from notes on it: the part that needs no
corpus.
"""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from mmengine.registry import MODELS
from torch import Tensor
from torch.nn import functional as F

from refineclip.distill.losses import shows_picture
from refineclip.distill.region_alignment import RegionAlignment
from refineclip.distill.region_batch import RegionBatch
from refineclip.encoders.weights.weights_hash import weights_hash

from .name_texts import build_texts
from .synonym_loss import refine_scores


@MODELS.register_module()
class SynonymAlignment(RegionAlignment):
    """Region-crop alignment, and score maps that do not hang on the word.

    For every class, the student's tokens are scored with its bare label, and the frozen teacher's
    with all its names; the first are held to the second, sharpened by a vision model where there is
    one. No image needs to be labelled: a class that an image lacks lights up little under any name.

    Deviations: the classes of the vocabulary instead of those that a corpus names for each image;
    the map of the student's dense mode instead of DeCLIP's streams.

    Args:
        student: Config of the :class:`RefinerCLIP` to train.
        rla: Config of :class:`CLIPSelfLoss`.
        synonym: Config of :class:`SynonymLoss`.
        texts: Arguments of :func:`build_texts`.
        vision_model: Config of a frozen :class:`RefinerCLIP` that sharpens the target (DINOv2 in
            the paper). None leaves the sharpening out.
        kwargs: ``text_head``, ``retention``, ``cache_dir``, ``cache_features`` and
            ``data_preprocessor`` of :class:`RegionAlignment`. With a text head, tokens are scored
            through it.

    Raises:
        ValueError: If the student has a Refiner.
    """

    FEATURES: ClassVar = {'map': False, 'crops': True, 'vision': False}
    label_text: Tensor
    rich_text: Tensor

    def __init__(
        self,
        student: dict,
        rla: dict,
        synonym: dict,
        texts: dict,
        vision_model: dict | None = None,
        **kwargs: Any,
    ) -> None:
        if student.get('refiner') is not None:
            raise ValueError('student: expected one without a Refiner, got refiner=dict(...)')
        super().__init__(student, 'rla', rla=rla, **kwargs)
        self.synonym = MODELS.build(synonym)
        if vision_model is not None:
            self.scd_teacher = MODELS.build({**vision_model, 'frozen': True})
        label, rich = build_texts(**texts)
        # Not persistent: the names are part of the config, not of the trained state.
        self.register_buffer('label_text', label, persistent=False)
        self.register_buffer('rich_text', rich, persistent=False)

    def select(self, batch: RegionBatch) -> dict[str, Tensor]:
        """Regions for alignment, and every image for its names."""
        images = torch.arange(len(batch), device=batch.boxes.device)
        return {**super().select(batch), 'synonym': images}

    def loss(
        self, batch: RegionBatch, chosen: dict[str, Tensor], counts: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """``loss_rla`` and ``loss_synonym``."""
        assert self.rla is not None
        targets = self.teacher_features(batch)
        student_map = self.student.dense(batch.images).float()
        losses = self._rla_loss(self.rla, student_map, targets, batch, counts['rla'])
        losses['loss_synonym'] = student_map.new_zeros(())
        if self.synonym.started:
            grid = student_map.shape[2], student_map.shape[3]
            valid = shows_picture(batch.pictures, grid)
            scores = self._scores(student_map, self.label_text)
            target = self._target_scores(batch, valid).to(scores.dtype)
            losses['loss_synonym'] = self.synonym(scores, target, valid, counts['synonym'])
        if self.retention is not None:
            losses['loss_retention'] = self.retention(
                self.student.image_embedding(batch.whole), targets['whole'], counts['retention']
            )
        return losses

    def _scores(self, maps: Tensor, texts: Tensor) -> Tensor:
        """Cosines (B, N, C) of the tokens of maps (B, D, h, w) to texts (C, T)."""
        tokens = maps.float().flatten(2).transpose(1, 2)
        if self.text_head is not None:
            return self.text_head.classify(tokens, texts)
        if tokens.shape[-1] != texts.shape[-1]:
            raise ValueError(
                f'texts: expected embeddings of {tokens.shape[-1]} columns, as the student has, '
                f'got {texts.shape[-1]}; a tower without a text tower of its own needs text_head'
            )
        return F.normalize(tokens, dim=-1) @ texts.T

    @torch.no_grad()
    def _target_scores(self, batch: RegionBatch, valid: Tensor | None) -> Tensor:
        """The teacher's scores (B, N, C) for all names, sharpened where there is a vision model."""
        teacher_map = self._frozen(
            'map', batch, lambda part: self.teacher.dense(part.images), self._teacher_version
        )
        scores = self._scores(teacher_map, self.rich_text)
        if self.scd_teacher is None:
            return scores
        vision = self._frozen('vision', batch, self._target_map, self._map_version)
        tokens = vision.flatten(2).transpose(1, 2)
        return refine_scores(scores, tokens, valid, self.synonym.top_k, self.synonym.share)

    def _teacher_version(self) -> dict:
        return dict(
            weights=weights_hash(self.teacher),
            dense_mode=self.teacher.dense_mode,
            refiner_input=None,
        )
