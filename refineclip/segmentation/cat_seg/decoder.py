"""Up-sampling decoder of CAT-Seg: cost maps to logits at four times the token grid.

Shapes: B images, T classes, (h, w) token grid.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from mmengine.model import BaseModule
from torch import Tensor, nn


class GuidedUp(nn.Module):
    """Double the resolution, then two convolutions that see cost and guidance.

    A convolution of ``[x, g]`` is one of x plus one of g; :meth:`guide` computes the second once
    per image, for all classes.

    Args:
        in_channels: Channels of the cost maps.
        out_channels: Channels of the result.
        guidance_channels: Channels of the projected guidance; the cost maps are brought to
            ``in_channels - guidance_channels``.
    """

    def __init__(self, in_channels: int, out_channels: int, guidance_channels: int) -> None:
        super().__init__()
        self.cost_channels = in_channels - guidance_channels
        self.up = nn.ConvTranspose2d(in_channels, self.cost_channels, kernel_size=2, stride=2)
        self.conv1 = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=False)
        self.norm1 = nn.GroupNorm(out_channels // 16, out_channels)
        self.conv2 = nn.Conv2d(out_channels, out_channels, 3, padding=1, bias=False)
        self.norm2 = nn.GroupNorm(out_channels // 16, out_channels)

    def guide(self, guidance: Tensor) -> Tensor:
        """Convolve guidance ``(B, G, 2h, 2w)`` to ``(B, 1, out_channels, 2h, 2w)``."""
        return F.conv2d(guidance, self.conv1.weight[:, self.cost_channels :], padding=1)[:, None]

    def forward(self, x: Tensor, guide: Tensor) -> Tensor:
        """Map cost ``(B * T, in_channels, h, w)`` to ``(B * T, out_channels, 2h, 2w)``."""
        x = F.conv2d(self.up(x), self.conv1.weight[:, : self.cost_channels], padding=1)
        x = (x.unflatten(0, (len(guide), -1)) + guide).flatten(0, 1)
        x = F.relu(self.norm1(x))
        return F.relu(self.norm2(self.conv2(x)))


class GuidedDecoder(BaseModule):
    """Two guided stages and a convolution to one logit per class.

    Args:
        in_channels: Channels of the cost volume.
        channels: Channels after each stage, multiples of 16.
        guidance_in_channels: Channels of the guidance of each stage.
        guidance_channels: What it is projected to.
        init_cfg: mmengine's initialisation.

    Raises:
        ValueError: If the numbers of channels do not fit each other.
    """

    def __init__(
        self,
        in_channels: int = 128,
        channels: Sequence[int] = (64, 32),
        guidance_in_channels: Sequence[int] = (256, 128),
        guidance_channels: Sequence[int] = (32, 16),
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        if not len(channels) == len(guidance_in_channels) == len(guidance_channels):
            raise ValueError(
                'expected as many channels as guidance_in_channels and guidance_channels, got '
                f'{channels}, {guidance_in_channels} and {guidance_channels}'
            )
        widths = [in_channels, *channels]
        if any(width <= guided for width, guided in zip(widths, guidance_channels, strict=False)):
            raise ValueError(
                f'expected fewer guidance_channels than the {widths[:-1]} channels of the cost, '
                f'got {list(guidance_channels)}'
            )
        if any(width % 16 for width in channels):
            raise ValueError(f'expected channels that are multiples of 16, got {list(channels)}')
        self.projections = nn.ModuleList(
            nn.Conv2d(before, after, 3, padding=1)
            for before, after in zip(guidance_in_channels, guidance_channels, strict=True)
        )
        self.stages = nn.ModuleList(
            GuidedUp(*sizes) for sizes in zip(widths, channels, guidance_channels, strict=False)
        )
        self.head = nn.Conv2d(widths[-1], 1, 3, padding=1)

    def guide(self, guidance: Sequence[Tensor]) -> list[Tensor]:
        """Project the guidance maps ``(B, G, 2h, 2w)``, ``(B, G', 4h, 4w)`` for every stage."""
        stages: Any = self.stages
        return [
            stage.guide(F.relu(projection(maps)))
            for stage, projection, maps in zip(stages, self.projections, guidance, strict=True)
        ]

    def forward(self, x: Tensor, guides: Sequence[Tensor]) -> Tensor:
        """Decode cost maps ``(B, T, C, h, w)`` to logits ``(B, T, 4h, 4w)``."""
        batch = len(x)
        x = x.flatten(0, 1)
        for stage, guide in zip(self.stages, guides, strict=True):
            x = stage(x, guide)
        return self.head(x)[:, 0].unflatten(0, (batch, -1))
