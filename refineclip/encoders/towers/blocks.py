"""One transformer block in pieces: the common view that the dense modes are written against.

A view holds a library block and owns no parameter. Shapes: B images, N tokens (prefix included), W
token width, d head width.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from open_clip.transformer import Attention as OpenCLIPAttention
from timm.layers import apply_rot_embed_cat
from torch import Tensor, nn


def split_heads(tokens: Tensor, num_heads: int) -> Tensor:
    """Reshape ``(B, N, heads * d)`` to ``(B, heads, N, d)``."""
    return tokens.unflatten(-1, (num_heads, -1)).transpose(1, 2)


def merge_heads(tokens: Tensor) -> Tensor:
    """Reshape ``(B, heads, N, d)`` to ``(B, N, heads * d)``."""
    return tokens.transpose(1, 2).flatten(2)


class BlockView(ABC):
    """A pre-norm transformer block taken apart into q, k, v, output and MLP.

    The whole block is ``x = x + output(attention(*qkv(x)))`` and then ``x = x + mlp(x)``.

    Args:
        block: The library block. It is used as it is, never changed.

    Attributes:
        num_heads: Number of attention heads.
        scale: Factor on ``q @ k.T`` before the softmax.
    """

    num_heads: int
    scale: float

    def __init__(self, block: nn.Module) -> None:
        # Any: library blocks have no common type, and their attributes are what each view knows.
        self.block: Any = block

    @abstractmethod
    def forward(self, tokens: Tensor) -> Tensor:
        """Run the untouched library block on tokens ``(B, N, W)``."""

    @abstractmethod
    def qkv(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return q, k, v, each ``(B, heads, N, d)``, after the first norm, q/k norms and RoPE."""

    @abstractmethod
    def value(self, tokens: Tensor) -> Tensor:
        """Return only v ``(B, heads, N, d)``, without the cost of q and k."""

    @abstractmethod
    def output(self, mixed: Tensor) -> Tensor:
        """Map mixed values ``(B, heads, N, d)`` to the attention branch's output ``(B, N, W)``.

        Merges heads, then inner norm, out-projection and layer scale, as far as the block has them.
        The residual is not added.
        """

    @abstractmethod
    def mlp(self, tokens: Tensor) -> Tensor:
        """Return the MLP branch ``(B, N, W)`` (norm, MLP, layer scale), residual not added."""


@contextmanager
def _without_mha_fastpath() -> Iterator[None]:
    """Keep ``nn.MultiheadAttention`` on scaled dot product attention.

    Its inference path on a CPU holds the whole (N, N) matrix of every head.
    """
    before = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        yield
    finally:
        torch.backends.mha.set_fastpath_enabled(before)


class OpenCLIPBlockView(BlockView):
    """View of open_clip's ``ResidualAttentionBlock`` and ``CustomResidualAttentionBlock``."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__(block)
        attn = self.block.attn
        self.custom = isinstance(attn, OpenCLIPAttention)
        self.num_heads = attn.num_heads
        self.scale = attn.head_dim**-0.5

    def forward(self, tokens: Tensor) -> Tensor:
        """See :meth:`BlockView.forward`."""
        with _without_mha_fastpath():
            return self.block(tokens)

    def qkv(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See :meth:`BlockView.qkv`."""
        attn = self.block.attn
        qkv = F.linear(self.block.ln_1(tokens), attn.in_proj_weight, attn.in_proj_bias)
        q, k, v = (split_heads(x, self.num_heads) for x in qkv.chunk(3, dim=-1))
        if self.custom:
            q, k = attn.ln_q(q), attn.ln_k(k)
        return q, k, v

    def value(self, tokens: Tensor) -> Tensor:
        """See :meth:`BlockView.value`."""
        attn = self.block.attn
        weight = attn.in_proj_weight.chunk(3)[2]
        bias = None if attn.in_proj_bias is None else attn.in_proj_bias.chunk(3)[2]
        return split_heads(F.linear(self.block.ln_1(tokens), weight, bias), self.num_heads)

    def output(self, mixed: Tensor) -> Tensor:
        """See :meth:`BlockView.output`."""
        block, attn = self.block, self.block.attn
        if not self.custom:
            return block.ls_1(attn.out_proj(merge_heads(mixed)))
        if attn.head_scale is not None:
            mixed = mixed * attn.head_scale
        x = attn.out_drop(attn.out_proj(attn.ln_inner(merge_heads(mixed))))
        return block.ls_1(block.ln_attn(x))

    def mlp(self, tokens: Tensor) -> Tensor:
        """See :meth:`BlockView.mlp`."""
        return self.block.ls_2(self.block.mlp(self.block.ln_2(tokens)))


class _TimmAttentionView(BlockView):
    """What timm's two block families share: the way back from heads to tokens."""

    def __init__(self, block: nn.Module) -> None:
        super().__init__(block)
        attn = self.block.attn
        # The gate of recent timm reads the block's input, which ``output`` does not see.
        if getattr(attn, 'gate', None) is not None:
            raise ValueError(
                f'expected attention without an output gate, got {type(attn).__name__} with one; '
                'gated towers have no dense modes'
            )
        self.num_heads = attn.num_heads
        self.scale = attn.scale

    def _out_projection(self, mixed: Tensor) -> Tensor:
        """Merge heads, inner norm, out-projection: ``(B, heads, N, d)`` to ``(B, N, W)``."""
        attn = self.block.attn
        return attn.proj_drop(attn.proj(attn.norm(merge_heads(mixed))))


class TimmBlockView(_TimmAttentionView):
    """View of ``timm.models.vision_transformer.Block``."""

    def forward(self, tokens: Tensor) -> Tensor:
        """See :meth:`BlockView.forward`."""
        return self.block(tokens)

    def qkv(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See :meth:`BlockView.qkv`."""
        attn = self.block.attn
        qkv = attn.qkv(self.block.norm1(tokens))
        q, k, v = (split_heads(x, self.num_heads) for x in qkv.chunk(3, dim=-1))
        return attn.q_norm(q), attn.k_norm(k), v

    def value(self, tokens: Tensor) -> Tensor:
        """See :meth:`BlockView.value`."""
        linear = self.block.attn.qkv
        weight = linear.weight.chunk(3)[2]
        bias = None if linear.bias is None else linear.bias.chunk(3)[2]
        return split_heads(F.linear(self.block.norm1(tokens), weight, bias), self.num_heads)

    def output(self, mixed: Tensor) -> Tensor:
        """See :meth:`BlockView.output`."""
        return self.block.drop_path1(self.block.ls1(self._out_projection(mixed)))

    def mlp(self, tokens: Tensor) -> Tensor:
        """See :meth:`BlockView.mlp`."""
        block = self.block
        return block.drop_path2(block.ls2(block.mlp(block.norm2(tokens))))


class EvaBlockView(_TimmAttentionView):
    """View of ``timm.models.eva.EvaBlock`` (EVA-02, DINOv3, Perception Encoder).

    Args:
        block: The library block.
        rope: Rotary embedding of the token grid ``(h * w, 2 * d)`` (or with a leading head axis),
            or None.
    """

    def __init__(self, block: nn.Module, rope: Tensor | None) -> None:
        super().__init__(block)
        self.rope = rope
        # Grouped-query attention: fewer key/value heads than query heads.
        self.num_kv_heads = getattr(self.block.attn, 'num_kv_heads', self.num_heads)

    def forward(self, tokens: Tensor) -> Tensor:
        """See :meth:`BlockView.forward`."""
        return self.block(tokens, rope=self.rope)

    def qkv(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """See :meth:`BlockView.qkv`."""
        attn = self.block.attn
        x = self.block.norm1(tokens)
        if attn.qkv is None:
            q = split_heads(attn.q_proj(x), self.num_heads)
            k = split_heads(attn.k_proj(x), self.num_kv_heads)
            v = split_heads(attn.v_proj(x), self.num_kv_heads)
        else:
            fused = F.linear(x, attn.qkv.weight, self._fused_bias())
            q, k, v = (split_heads(part, self.num_heads) for part in fused.chunk(3, dim=-1))
        q, k = self._rotate(attn.q_norm(q), v), self._rotate(attn.k_norm(k), v)
        return q, self._expand(k), self._expand(v)

    def value(self, tokens: Tensor) -> Tensor:
        """See :meth:`BlockView.value`."""
        attn = self.block.attn
        x = self.block.norm1(tokens)
        if attn.qkv is None:
            return self._expand(split_heads(attn.v_proj(x), self.num_kv_heads))
        bias = self._fused_bias()
        bias = None if bias is None else bias.chunk(3)[2]
        return split_heads(F.linear(x, attn.qkv.weight.chunk(3)[2], bias), self.num_heads)

    def output(self, mixed: Tensor) -> Tensor:
        """See :meth:`BlockView.output`."""
        x = self._out_projection(mixed)
        if self.block.gamma_1 is not None:
            x = self.block.gamma_1 * x
        return self.block.drop_path1(x)

    def mlp(self, tokens: Tensor) -> Tensor:
        """See :meth:`BlockView.mlp`."""
        x = self.block.mlp(self.block.norm2(tokens))
        if self.block.gamma_2 is not None:
            x = self.block.gamma_2 * x
        return self.block.drop_path2(x)

    def _fused_bias(self) -> Tensor | None:
        """Bias of the fused projection: EVA keeps q and v biases apart and the key's at zero."""
        attn = self.block.attn
        if getattr(attn, 'q_bias', None) is None:
            return attn.qkv.bias
        return torch.cat((attn.q_bias, attn.k_bias, attn.v_bias))

    def _rotate(self, x: Tensor, like: Tensor) -> Tensor:
        """Apply RoPE to q or k ``(B, heads, N, d)``, patch tokens only: prefix tokens have none."""
        if self.rope is None:
            return x
        attn = self.block.attn
        prefix, patches = x.split(
            [attn.num_prefix_tokens, x.shape[2] - attn.num_prefix_tokens], dim=2
        )
        patches = apply_rot_embed_cat(patches, self.rope, half=attn.rotate_half)
        return torch.cat((prefix, patches), dim=2).type_as(like)

    def _expand(self, x: Tensor) -> Tensor:
        """Repeat key/value heads ``(B, kv_heads, N, d)`` to the number of query heads."""
        groups = self.num_heads // self.num_kv_heads
        return x if groups == 1 else x.repeat_interleave(groups, dim=1)
