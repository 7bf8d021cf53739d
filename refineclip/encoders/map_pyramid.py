"""Maps of one ViT, at the strides and channels that a stock neck or head expects."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F


class MapPyramid(nn.Module):
    """Resize same-stride maps to a pyramid, and map their channels with a learned 1x1 convolution.

    Args:
        in_channels: Channels of every input map.
        patch_size: Stride of every input map, pixels.
        strides: Output stride per map, pixels (``None``: maps keep their size).
        channels: Output channels per map (``None``: maps keep their channels, nothing is learned).
    """

    def __init__(
        self,
        in_channels: int,
        patch_size: int,
        strides: Sequence[float] | None = None,
        channels: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        self.scales = None if strides is None else [patch_size / stride for stride in strides]
        self.projections = (
            None
            if channels is None
            else nn.ModuleList(nn.Conv2d(in_channels, out, kernel_size=1) for out in channels)
        )

    def forward(self, maps: Sequence[Tensor]) -> tuple[Tensor, ...]:
        """Turn maps (B, C, h, w) into maps (B, channels[i], h * patch / stride[i], ...)."""
        outputs = list(maps)
        if self.projections is not None:
            outputs = [layer(one) for layer, one in zip(self.projections, outputs, strict=True)]
        if self.scales is not None:
            outputs = [resize(one, scale) for scale, one in zip(self.scales, outputs, strict=True)]
        return tuple(outputs)


def resize(feature: Tensor, scale: float) -> Tensor:
    """Bilinear up, area average down; identity at scale 1."""
    if scale == 1:
        return feature
    size = [max(1, round(side * scale)) for side in feature.shape[-2:]]
    if scale < 1:
        return F.interpolate(feature, size=size, mode='area')
    return F.interpolate(feature, size=size, mode='bilinear', align_corners=False)
