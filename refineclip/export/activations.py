"""Which activation a tower really has: a library's config may not say it."""

from __future__ import annotations

from open_clip.transformer import QuickGELU
from timm.layers import GELUTanh
from timm.layers import QuickGELU as TimmQuickGELU
from torch import nn


def activation_name(tower: nn.Module) -> str:
    """Name in transformers' words of the activation in a tower's MLPs.

    Raises:
        ValueError: If it is none that is known here.
    """
    for layer in tower.modules():
        if isinstance(layer, QuickGELU | TimmQuickGELU):
            return 'quick_gelu'
        if isinstance(layer, GELUTanh):
            return 'gelu_pytorch_tanh'
        if isinstance(layer, nn.GELU):
            return 'gelu' if layer.approximate == 'none' else 'gelu_pytorch_tanh'
    raise ValueError(
        f'expected a tower with GELU, got {type(tower).__name__} with another activation'
    )


def is_quick_gelu(tower: nn.Module) -> bool:
    """Whether a tower has OpenAI's approximation of GELU."""
    return any(isinstance(layer, QuickGELU) for layer in tower.modules())
