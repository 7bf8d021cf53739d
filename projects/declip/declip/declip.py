"""DeCLIP: language learns from crops through one stream, space from a vision model through another.

Paper: DeCLIP, CVPR 2025, arXiv 2505.04410. Written from its description.
"""

from __future__ import annotations

from typing import Any

import torch
from mmengine.registry import MODELS
from torch import Tensor

from refineclip.distill.losses import CorrelationLoss, shows_picture
from refineclip.distill.region_alignment import RegionAlignment
from refineclip.distill.region_batch import RegionBatch

from .streams import STREAMS, split_streams

FROZEN_STUDENT = 'frozen-student'


@MODELS.register_module()
class DeCLIP(RegionAlignment):
    """Content of the last block against crops, its context against a vision model.

    Differs from its parent, of which it is the method ``'sc-rla'``, in the spatial term: not the
    dense map is held to the target's correlations but the queries of the last block, between all
    patches of the image and not within regions.

    Args:
        student: Config of the :class:`RefinerCLIP`; ``dense_mode='query-query-only'`` is the
            published one: self-correlation attention, no residual, no feed-forward.
        content: Config of the loss between region and crop, :class:`CLIPSelfLoss`.
        context: Config of :class:`CorrelationLoss`. Weight 0.25 in the paper, 0.1 in the published
            script.
        vision_model: Config of a frozen :class:`RefinerCLIP` whose map gives the correlations. It
            sees the same pixels at the size that gives both as many tokens. ``'frozen-student'``
            takes the frozen CLIP itself, where a suite has no vision model: a deviation.
        stream: ``'query'``, ``'key'`` or ``'query-key'`` (both, mean of their losses).
        kwargs: ``text_head``, ``retention``, ``cache_dir``, ``cache_features`` and
            ``data_preprocessor`` of :class:`RegionAlignment`.

    Raises:
        ValueError: On an unknown stream or word, or a student with a Refiner.
        TypeError: If ``context`` is no :class:`CorrelationLoss`.
    """

    def __init__(
        self,
        student: dict,
        content: dict,
        context: dict,
        vision_model: dict | str,
        stream: str = 'query',
        **kwargs: Any,
    ) -> None:
        if stream not in STREAMS:
            raise ValueError(f'stream: expected one of {sorted(STREAMS)}, got {stream!r}')
        if isinstance(vision_model, str) and vision_model != FROZEN_STUDENT:
            raise ValueError(
                f'vision_model: expected the config of an encoder or {FROZEN_STUDENT!r}, got '
                f'{vision_model!r}'
            )
        if student.get('refiner') is not None:
            raise ValueError('student: expected one without a Refiner, got refiner=dict(...)')
        teacher = None if isinstance(vision_model, str) else vision_model
        super().__init__(student, 'sc-rla', rla=content, scd=context, scd_teacher=teacher, **kwargs)
        if not isinstance(self.scd, CorrelationLoss):
            raise TypeError(f'context: expected a CorrelationLoss, got {type(self.scd).__name__}')
        self.streams = STREAMS[stream]

    def select(self, batch: RegionBatch) -> dict[str, Tensor]:
        """All regions for content, and every image for context."""
        images = torch.arange(len(batch), device=batch.boxes.device)
        regions = torch.arange(batch.num_regions, device=batch.boxes.device)
        chosen = {'rla': regions, 'scd': images}
        return chosen if self.retention is None else {**chosen, 'retention': images}

    def loss(
        self, batch: RegionBatch, chosen: dict[str, Tensor], counts: dict[str, Tensor]
    ) -> dict[str, Tensor]:
        """``loss_rla`` of the content, ``loss_scd`` of the context."""
        targets = self.teacher_features(batch)
        content, context = split_streams(self.student, batch.images, self.streams)
        losses = self._rla_loss(self.rla, content.float(), targets, batch, counts['rla'])
        losses |= self._context_loss(context, targets.get('map'), batch, counts['scd'])
        if self.retention is not None:
            losses['loss_retention'] = self.retention(
                self.student.image_embedding(batch.whole), targets['whole'], counts['retention']
            )
        return losses

    def _context_loss(
        self, context: list[Tensor], target: Tensor | None, batch: RegionBatch, count: Tensor
    ) -> dict[str, Tensor]:
        if target is None:  # before the term sets in
            return self.scd.logged(None, batch.images.device)
        tokens = target.flatten(2).transpose(1, 2)
        valid = shows_picture(batch.pictures, target.shape[-2:])
        parts = [self.scd(one, tokens, valid, avg_factor=count) for one in context]
        return self.scd.logged(torch.stack(parts).mean(), batch.images.device)
