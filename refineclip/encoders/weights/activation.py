"""Quick GELU, which weights do not show: noted in checkpoints, and compared with the tower."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import timm.layers
from open_clip.transformer import QuickGELU
from torch import nn

QUICK_GELU = 'quick_gelu'


def uses_quick_gelu(tower: nn.Module) -> bool:
    """Whether the blocks of a tower have OpenAI's approximation of GELU."""
    return any(isinstance(module, QuickGELU | timm.layers.QuickGELU) for module in tower.modules())


def check_activation(tower: nn.Module, meta: Mapping[str, Any], path: str | Path) -> None:
    """Compare a tower with the notes of the checkpoint that is to fill it.

    Args:
        tower: The tower, or a part of it.
        meta: Notes of the checkpoint; without ``quick_gelu`` (older ones) nothing is known.
        path: The file, for the message.

    Raises:
        ValueError: The weights were trained with the other activation.
    """
    trained, own = meta.get(QUICK_GELU), uses_quick_gelu(tower)
    if trained is None or bool(trained) == own:
        return
    words = {True: 'quick GELU', False: 'plain GELU'}
    name = "the model's name with" if trained else "the model's name without"
    raise ValueError(
        f'expected a tower with {words[bool(trained)]}, which {path} was trained with, got one '
        f"with {words[own]}; take {name} '-quickgelu'"
    )
