"""The last block in two streams: content for language, context for space."""

from __future__ import annotations

from torch import Tensor

from refineclip.encoders.refiner_clip import RefinerCLIP
from refineclip.encoders.towers.blocks import merge_heads

STREAMS = {'query': ('query',), 'key': ('key',), 'query-key': ('query', 'key')}


def split_streams(
    student: RefinerCLIP, images: Tensor, names: tuple[str, ...]
) -> tuple[Tensor, list[Tensor]]:
    """Run the trunk once, and the last block as content and as context.

    Args:
        student: Without a Refiner; its dense mode is how content is mixed.
        images: (B, 3, H, W) normalised.
        names: Context streams, out of ``'query'`` and ``'key'``.

    Returns:
        The content map (B, D, h, w) in the embedding space, and of each context stream the patch
        tokens (B, h * w, W): queries or keys of all heads, after q/k norms and RoPE, as the block
        attends with them.
    """
    tokens, grid = student.trunk(images)
    content = student.embedding_map(student.plain_tokens(tokens, grid), grid)
    visual = student.visual
    query, key, _ = visual.block_view(visual.num_blocks - 1, grid).qkv(tokens)
    parts = {'query': query, 'key': key}
    return content, [merge_heads(parts[name])[:, visual.num_prefix_tokens :] for name in names]
