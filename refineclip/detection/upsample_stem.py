"""Four maps of one ViT, all at the stride of its patch, turned into a pyramid that learns."""

from __future__ import annotations

from collections.abc import Sequence

from mmcv.cnn import build_norm_layer
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import Tensor, nn


@MODELS.register_module()
class UpsampleStem(BaseModule):
    """Scale the taps by 4, 2, 1 and 1/2: strides 4, 8, 16, 32 of patch 16; 3.5, 7, 14, 28 of 14.

    The first tap passes a transposed convolution, a norm, GELU and another transposed convolution;
    the second one transposed convolution; the third nothing; the last a max-pool. This is F-ViT's
    stem (CLIPSelf), the simple feature pyramid of ViTDet with a map of its own per level.

    Args:
        embed_dims: Channels of every tap, in and out: the width of the ViT.
        norm_cfg: Norm between the two transposed convolutions. Published: SyncBN; BN runs on a
            CPU and in one process.
        init_cfg: See :class:`mmengine.model.BaseModule`.
    """

    def __init__(
        self, embed_dims: int, norm_cfg: dict | None = None, init_cfg: dict | None = None
    ) -> None:
        super().__init__(init_cfg)
        self.embed_dims = embed_dims

        def double() -> nn.ConvTranspose2d:
            return nn.ConvTranspose2d(embed_dims, embed_dims, kernel_size=2, stride=2)

        norm = build_norm_layer(norm_cfg or dict(type='SyncBN'), embed_dims)[1]
        self.levels = nn.ModuleList(
            [
                nn.Sequential(double(), norm, nn.GELU(), double()),
                double(),
                nn.Identity(),
                nn.MaxPool2d(kernel_size=2, stride=2),
            ]
        )

    def forward(self, taps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Turn four maps (B, W, h, w) into maps of 4h x 4w, 2h x 2w, h x w and h/2 x w/2."""
        return tuple(level(tap) for level, tap in zip(self.levels, taps, strict=True))
