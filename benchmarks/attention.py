"""Attention: two matrix products with a softmax between, against PyTorch's fused operator."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from .harness import Comparison, Goal, Numbers
from .published import eager_attention
from .registry import benchmark


def _inference(function: Callable[..., Tensor], qkv: Tensor) -> Numbers:
    with torch.inference_mode():
        return dict(mixed=function(*qkv))


def _training(function: Callable[..., Tensor], qkv: Tensor) -> Numbers:
    qkv = qkv.detach().requires_grad_()
    mixed = function(*qkv)
    # Not a plain sum: softmax rows sum to one, and that gradient is zero for q and k.
    mixed.square().sum().backward()
    return dict(mixed=mixed.detach(), gradient=qkv.grad)


def _compare(quick: bool, num_tokens: int, training: bool, repeats: int = 5) -> Comparison:
    num_tokens = 17 if quick else num_tokens
    qkv = torch.randn(3, 1, 12, num_tokens, 64, generator=torch.Generator().manual_seed(0))
    call = _training if training else _inference
    names = ('mixed', 'gradient') if training else ('mixed',)
    return Comparison(
        published=partial(call, eager_attention, qkv),
        ours=partial(call, F.scaled_dot_product_attention, qkv),
        setting=f'{num_tokens} tokens, 12 heads of 64, 1 image, float32; '
        + ('forward and backward' if training else 'forward without gradient'),
        bound='the exponentials and the same two products, in blocks that stay in the cache',
        tolerances=dict.fromkeys(names, 1e-4),
        # Bars of the benchmark design, not goals of the project.
        goals=() if training else (Goal('speedup', at_least=2), Goal('memory', at_most=0.1)),
        repeats=repeats,
    )


@benchmark('attention-1226')
def small(quick: bool) -> Comparison:
    """Tokens of B/16 at 560 px, as the frozen teacher runs."""
    return _compare(quick, 1226, training=False)


@benchmark('attention-4097')
def large(quick: bool) -> Comparison:
    """Tokens of B/16 at 1024 px, as the frozen teacher runs."""
    return _compare(quick, 4097, training=False)


@benchmark('attention-1226-training')
def small_training(quick: bool) -> Comparison:
    """Tokens of B/16 at 560 px, as the student runs."""
    return _compare(quick, 1226, training=True)


@benchmark('attention-4097-training')
def large_training(quick: bool) -> Comparison:
    """Tokens of B/16 at 1024 px, as the student runs."""
    return _compare(quick, 4097, training=True, repeats=3)
