"""Text towers without the work on positions that no prompt reaches."""

from __future__ import annotations

from typing import Any

from open_clip.transformer import TextTransformer, text_global_pool
from torch import Tensor, nn


def encode_prompts(text: Any, tokens: Tensor) -> Tensor:
    """Embed prompts ``(C, context)``, token positions after the last end-of-text left out.

    Under a causal mask no position sees what follows it, and the embedding is read at the end of
    the text: nothing after that matters. Towers that attend both ways, or that pool elsewhere, run
    as they are.

    Returns:
        ``(C, D)``, not normalised.
    """
    if not ends_at_text(text):
        return text(tokens)
    end = (
        tokens.argmax(-1)
        if text.pool_type == 'argmax'
        else (tokens == text.eos_id).int().argmax(-1)
    )
    tokens = tokens[:, : int(end.max()) + 1]
    x = text.token_embedding(tokens) + text.positional_embedding[: tokens.shape[1]]
    mask = text.attn_mask[: tokens.shape[1], : tokens.shape[1]]
    x = text.ln_final(text.transformer(x, attn_mask=mask))
    pooled = text_global_pool(x, tokens, pool_type=text.pool_type, eos_token_id=text.eos_id)
    projection = text.text_projection
    if projection is None:
        return pooled
    return projection(pooled) if isinstance(projection, nn.Linear) else pooled @ projection


def ends_at_text(text: Any) -> bool:
    """Tell whether a tower is causal, without class token, and pooled at the end of the text."""
    return (
        isinstance(text, TextTransformer)
        and text.attn_mask is not None
        and text.cls_emb is None
        and text.pool_type in ('argmax', 'eos')
        and not text.output_tokens
    )
