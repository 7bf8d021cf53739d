"""Ways to run the last block for a dense map: one small function per mode, chosen by name.

Only the last block differs between modes; the blocks before it run as they are. To add a mode,
write a function ``(block, tokens) -> tokens`` and decorate it with its name::

    @dense_mode('value-query')
    def value_query(block: BlockView, tokens: Tensor) -> Tensor: ...

A mode of a method may read several last blocks (``num_blocks``), and may need a tower of its own
kind (``fit_tower``): with parameters added to it, or with a border around its images.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from .blocks import BlockView

# (block, tokens) -> tokens; with num_blocks > 1 the first argument is the list of views.
DenseMode = Callable[[Any, Tensor], Tensor]


@dataclass(frozen=True)
class _Registered:
    """What is known of a mode; see :func:`dense_mode`."""

    function: DenseMode
    class_token: bool
    num_blocks: int
    fit_tower: Callable[[Any], None] | None


_MODES: dict[str, _Registered] = {}


def dense_mode(
    name: str,
    class_token: bool = False,
    num_blocks: int = 1,
    fit_tower: Callable[[Any], None] | None = None,
) -> Callable[[DenseMode], DenseMode]:
    """Register a function ``(block, tokens (B, N, W)) -> tokens (B, N, W)`` under a name.

    Args:
        name: What users call it.
        class_token: The function takes the first token for a class token.
        num_blocks: How many last blocks the function replaces. With more than one its first
            argument is the list of their views, first block first.
        fit_tower: Called with a :class:`DenseViT` once, after its weights are loaded, to give it
            what the mode needs. Submodules that it adds to a block are saved, frozen and trained
            with the block.

    Raises:
        ValueError: If the name is taken by another function, or ``num_blocks`` < 1.
    """
    if num_blocks < 1:
        raise ValueError(f'num_blocks: expected 1 or more, got {num_blocks}')

    def register(function: DenseMode) -> DenseMode:
        if name in _MODES:
            raise ValueError(
                f'expected a new dense mode name, got {name!r}, which exists; choose another'
            )
        _MODES[name] = _Registered(function, class_token, num_blocks, fit_tower)
        return function

    return register


def list_dense_modes() -> list[str]:
    """Return the names of all dense modes, sorted."""
    return sorted(_MODES)


def get_dense_mode(name: str) -> DenseMode:
    """Return the dense mode of a name.

    Raises:
        ValueError: If there is none; the message lists what exists.
    """
    return _registered(name).function


def num_blocks_of_mode(name: str) -> int:
    """Return how many last blocks a dense mode replaces."""
    return _registered(name).num_blocks


def mode_fits_tower(name: str) -> bool:
    """Tell whether a dense mode needs a tower that :func:`fit_tower` was called for."""
    return _registered(name).fit_tower is not None


def fit_tower(name: str, visual: Any) -> None:
    """Give a tower, once, what a dense mode needs of it; nothing for most modes.

    Args:
        name: Name of the mode.
        visual: The :class:`DenseViT`, with its weights.
    """
    fit = _registered(name).fit_tower
    if fit is not None and name not in visual.fitted_modes:
        fit(visual)
        visual.fitted_modes.add(name)


def _registered(name: str) -> _Registered:
    if name not in _MODES:
        raise ValueError(f'expected a dense mode out of {list_dense_modes()}, got {name!r}')
    return _MODES[name]


def check_dense_mode(name: str, num_class_tokens: int) -> None:
    """Refuse a dense mode that a tower cannot have.

    Args:
        name: Name of the mode.
        num_class_tokens: Class tokens of the tower.

    Raises:
        ValueError: If there is no such mode, or it needs a class token and the tower has none.
    """
    if _registered(name).class_token and num_class_tokens == 0:
        raise ValueError(
            f'dense mode {name!r} is built on the class token, and this tower has none (SigLIP and '
            "its kin pool by attention); use 'value'"
        )


def _attend(block: BlockView, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Softmax attention with the block's scale, all ``(B, heads, N, d)``."""
    return F.scaled_dot_product_attention(query, key, value, scale=block.scale)


def _finish(block: BlockView, tokens: Tensor, mixed: Tensor) -> Tensor:
    """Complete a block around mixed values ``(B, heads, N, d)``: out-projection, residuals, MLP."""
    tokens = tokens + block.output(mixed)
    return tokens + block.mlp(tokens)


@dense_mode('plain')
def plain(block: BlockView, tokens: Tensor) -> Tensor:
    """Run the block as the library does."""
    return block.forward(tokens)


@dense_mode('value')
def value(block: BlockView, tokens: Tensor) -> Tensor:
    """Replace attention by the value path, no mixing of tokens; residual and MLP are kept.

    This is the dense map of CLIPSelf (arXiv 2310.01403).
    """
    return _finish(block, tokens, block.value(tokens))


@dense_mode('value-cls', class_token=True)
def value_cls(block: BlockView, tokens: Tensor) -> Tensor:
    """Like ``'value'``, but every token takes the class token's residual instead of its own.

    This is the dense map of CAT-Seg (arXiv 2303.11797) as published at CVPR 2024.
    """
    mixed = tokens[:, :1] + block.output(block.value(tokens))
    return mixed + block.mlp(mixed)


@dense_mode('value-only')
def value_only(block: BlockView, tokens: Tensor) -> Tensor:
    """Keep nothing but the value path: no mixing, no residual, no MLP.

    As MaskCLIP (arXiv 2112.01071) without attention, and ClearCLIP (arXiv 2407.12442) without
    residual and MLP.
    """
    return block.output(block.value(tokens))


@dense_mode('query-query')
def query_query(block: BlockView, tokens: Tensor) -> Tensor:
    """Attend with queries as keys; residual and MLP are kept."""
    q, _, v = block.qkv(tokens)
    return _finish(block, tokens, _attend(block, q, q, v))


@dense_mode('key-key')
def key_key(block: BlockView, tokens: Tensor) -> Tensor:
    """Attend with keys as queries; residual and MLP are kept."""
    _, k, v = block.qkv(tokens)
    return _finish(block, tokens, _attend(block, k, k, v))


@dense_mode('self-self')
def self_self(block: BlockView, tokens: Tensor) -> Tensor:
    """Sum query-query and key-key attention; residual and MLP are kept.

    The correlative self-attention of SCLIP (arXiv 2312.01597).
    """
    q, k, v = block.qkv(tokens)
    return _finish(block, tokens, _attend(block, q, q, v) + _attend(block, k, k, v))


@dense_mode('query-query-only')
def query_query_only(block: BlockView, tokens: Tensor) -> Tensor:
    """Attend with queries as keys, and keep nothing else: no residual, no MLP.

    The dense map of ClearCLIP (arXiv 2407.12442), and the content of DeCLIP (arXiv 2505.04410).
    """
    q, _, v = block.qkv(tokens)
    return block.output(_attend(block, q, q, v))
