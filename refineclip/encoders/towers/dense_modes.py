"""Ways to run the last block for a dense map: one small function per mode, chosen by name.

Only the last block differs between modes; the blocks before it run as they are. To add a mode,
write a function ``(block, tokens) -> tokens`` and decorate it with its name::

    @dense_mode('value-query')
    def value_query(block: BlockView, tokens: Tensor) -> Tensor: ...
"""

from __future__ import annotations

from collections.abc import Callable

import torch.nn.functional as F
from torch import Tensor

from .blocks import BlockView

DenseMode = Callable[[BlockView, Tensor], Tensor]

_MODES: dict[str, DenseMode] = {}
_NEED_CLASS_TOKEN: set[str] = set()


def dense_mode(name: str, class_token: bool = False) -> Callable[[DenseMode], DenseMode]:
    """Register a function ``(block, tokens (B, N, W)) -> tokens (B, N, W)`` under a name.

    Args:
        name: What users call it.
        class_token: The function takes the first token for a class token.

    Raises:
        ValueError: If the name is taken by another function.
    """

    def register(function: DenseMode) -> DenseMode:
        if name in _MODES:
            raise ValueError(
                f'expected a new dense mode name, got {name!r}, which exists; choose another'
            )
        _MODES[name] = function
        if class_token:
            _NEED_CLASS_TOKEN.add(name)
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
    get_dense_mode(name)
    if name in _NEED_CLASS_TOKEN and num_class_tokens == 0:
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
