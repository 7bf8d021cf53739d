"""CAT-Seg's decode head: guidance from intermediate blocks, cost aggregation, loss."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import Tensor, nn

from .cost_aggregation import CostAggregator, place_classes


@MODELS.register_module()
class CostAggregationHead(BaseModule):
    """Score every class of a vocabulary at every position.

    Args:
        width: Token width of the image tower, which the intermediate maps have.
        text_dims: Width of the joint embedding.
        guidance_channels: Channels of the intermediate maps after up-sampling, 2 x and 4 x.
        aggregator: Further arguments of
            :class:`~refineclip.segmentation.cat_seg.cost_aggregation.CostAggregator`.
        loss_decode: Loss of (logits (B, C, H, W), labels (B, H, W)); ``PixelBCELoss`` by default.
        ignore_index: Label of pixels without a class.
        init_cfg: mmengine's initialisation.
    """

    def __init__(
        self,
        width: int,
        text_dims: int,
        guidance_channels: Sequence[int] = (256, 128),
        aggregator: dict | None = None,
        loss_decode: dict | None = None,
        ignore_index: int = 255,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        self.guidance_upsample = nn.ModuleList(
            nn.ConvTranspose2d(width, channels, kernel_size=factor, stride=factor)
            for channels, factor in zip(guidance_channels, (2, 4), strict=True)
        )
        self.aggregator = CostAggregator(
            text_dims=text_dims,
            decoder_guidance_in_channels=guidance_channels,
            **(aggregator or {}),
        )
        self.loss_decode = MODELS.build(loss_decode or dict(type='PixelBCELoss'))
        self.ignore_index = ignore_index

    def score(
        self, image: Tensor, intermediate: Sequence[Tensor], text: Tensor
    ) -> tuple[Tensor, Tensor | None]:
        """Return logits of the classes that were run.

        Args:
            image: Dense embeddings ``(B, D, h, w)``.
            intermediate: Two maps ``(B, width, h, w)`` of earlier blocks.
            text: ``(C, D)``, L2-normalised.

        Returns:
            Logits ``(B, T, 4h, 4w)`` and their classes ``(B, T)``, or None for all C.
        """
        guidance = [up(x) for up, x in zip(self.guidance_upsample, intermediate, strict=True)]
        return self.aggregator(image, text, guidance)

    def forward(self, image: Tensor, intermediate: Sequence[Tensor], text: Tensor) -> Tensor:
        """Return logits ``(B, C, 4h, 4w)`` of the whole vocabulary; see :meth:`score`."""
        return place_classes(*self.score(image, intermediate, text), text.shape[0])

    def loss(
        self, image: Tensor, intermediate: Sequence[Tensor], text: Tensor, labels: Tensor
    ) -> dict[str, Tensor]:
        """Compare with labels ``(B, H, W)``, the logits resized to them."""
        logits = self(image, intermediate, text)
        logits = F.interpolate(logits, labels.shape[1:], mode='bilinear', align_corners=False)
        name = getattr(self.loss_decode, 'loss_name', 'loss_decode')
        return {name: self.loss_decode(logits, labels, ignore_index=self.ignore_index)}
