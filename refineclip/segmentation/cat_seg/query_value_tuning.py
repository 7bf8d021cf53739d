"""Let only the query and value projections of a transformer learn, fused or not."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize


class _JoinedRows(nn.Module):
    """A fused projection as three parameters, so that an optimizer sees each of them alone."""

    def forward(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return torch.cat((query, key, value))

    def right_inverse(self, fused: Tensor) -> tuple[Tensor, ...]:
        return tuple(rows.clone() for rows in fused.chunk(3))


def train_query_value_only(tower: nn.Module) -> list[str]:
    """Freeze a transformer but for the weights of its query and value projections.

    Keys, biases, out-projections, MLPs, norms and embeddings stay fixed, as in CAT-Seg's released
    recipe. Where the library keeps query, key and value in one matrix, that matrix becomes three
    parameters: a mask on the gradient would let weight decay move the frozen rows. ``state_dict``
    and ``load_state_dict`` keep the library's names.

    Args:
        tower: Module with attentions named ``attn``: open_clip's (``in_proj_weight``), timm's
            (``qkv``, or ``q_proj`` and ``v_proj``).

    Returns:
        Names of the parameters that learn.

    Raises:
        ValueError: If there is no such attention.
    """
    tower.requires_grad_(False)
    for name, module in list(tower.named_modules()):
        if name.split('.')[-1] == 'attn':
            _train_query_value(module)
    names = [name for name, parameter in tower.named_parameters() if parameter.requires_grad]
    if not names:
        raise ValueError(
            'expected a transformer with attentions named attn (open_clip or timm), got '
            f'{type(tower).__name__} without; take a tower of these libraries, or leave the tuning '
            'of the towers to their own keys (clip_tuning=None)'
        )
    return names


def _train_query_value(attention: Any) -> None:
    """Make query and value weights of one attention trainable."""
    if getattr(attention, 'q_proj', None) is not None:
        attention.q_proj.weight.requires_grad_(True)
        attention.v_proj.weight.requires_grad_(True)
        return
    owner, weight = (
        (attention.qkv, 'weight')
        if getattr(attention, 'qkv', None) is not None
        else (attention, 'in_proj_weight')
    )
    if not parametrize.is_parametrized(owner, weight):
        parametrize.register_parametrization(owner, weight, _JoinedRows())
        # Older names of what torch 2.5 made public.
        owner._register_state_dict_hook(_join_in_state)
        owner._register_load_state_dict_pre_hook(_split_in_state, with_module=True)
    rows = owner.parametrizations[weight]
    rows.original0.requires_grad_(True)
    rows.original2.requires_grad_(True)


def _join_in_state(module: Any, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Write a parametrized weight under its library name."""
    for name in module.parametrizations:
        parts = [state.pop(f'{prefix}parametrizations.{name}.original{i}') for i in range(3)]
        state[prefix + name] = torch.cat(parts)


def _split_in_state(module: Any, state: dict[str, Any], prefix: str, *_: Any) -> None:
    """Read a parametrized weight from its library name."""
    for name in module.parametrizations:
        fused = state.pop(prefix + name, None)
        if fused is not None:
            for i, rows in enumerate(fused.chunk(3)):
                state[f'{prefix}parametrizations.{name}.original{i}'] = rows
