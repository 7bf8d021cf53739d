"""Contrastive pre-training of a small CLIP, for worlds that have none: the microworld's."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from open_clip import ClipLoss
from torch import Tensor
from torch.nn import functional as F

from refineclip.encoders.build import build_clip
from refineclip.encoders.weights.checkpoint_guard import require_whole_checkpoint

MAX_LOGIT_SCALE = math.log(100)  # as every published CLIP clamps it


@MODELS.register_module()
class ContrastivePretraining(BaseModel):
    """Train both towers of a CLIP from random weights with open_clip's symmetric loss.

    One process: negatives are those of the batch.

    Args:
        model: Name or inline open_clip config of a CLIP with a text tower.
        data_preprocessor: Config of mmengine's ``ImgDataPreprocessor``.
    """

    def __init__(
        self,
        model: str | dict,
        data_preprocessor: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(data_preprocessor, init_cfg)
        require_whole_checkpoint(self)
        self.clip: Any = build_clip(model, pretrained=None)
        if self.clip.text is None:
            raise ValueError(f'expected a model with a text tower, got {model!r}')
        self.contrast = ClipLoss()

    def forward(
        self, inputs: Tensor, data_samples: Sequence[str] | None = None, mode: str = 'tensor'
    ) -> dict[str, Tensor] | Tensor:
        """Run one mode of mmengine's model protocol.

        Args:
            inputs: Normalised images (B, 3, H, W).
            data_samples: One text per image; for the loss only.
            mode: ``'loss'``, or ``'tensor'`` or ``'predict'`` for image embeddings (B, D).
        """
        images = self.clip(inputs)
        if mode != 'loss':
            return images
        if data_samples is None:
            raise ValueError('data_samples: expected one caption per image, got None')
        texts = self.clip.text(self.clip.tokenizer(list(data_samples)).to(inputs.device))
        with torch.no_grad():
            self.clip.logit_scale.clamp_(0, MAX_LOGIT_SCALE)
        loss = self.contrast(
            F.normalize(images, dim=-1), F.normalize(texts, dim=-1), self.clip.logit_scale.exp()
        )
        return {'loss_contrastive': loss}
