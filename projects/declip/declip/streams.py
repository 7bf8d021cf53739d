"""The last block in two streams: content for language, context for space."""

from __future__ import annotations

import torch
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


def shows_picture(pictures: Tensor | None, grid: tuple[int, int]) -> Tensor | None:
    """Tell tokens of the picture from tokens of its padding.

    Args:
        pictures: (B, 4) xyxy of each picture in [0, 1] of the canvas; None if nobody knows.
        grid: (h, w).

    Returns:
        (B, h * w) bool, whether the middle of a token lies in the picture; None for None.
    """
    if pictures is None:
        return None
    ys, xs = (
        (torch.arange(count, device=pictures.device) + 0.5) / count for count in grid
    )  # middles of the tokens, in [0, 1]
    x1, y1, x2, y2 = (side[:, None] for side in pictures.unbind(dim=1))
    rows, columns = (ys >= y1) & (ys <= y2), (xs >= x1) & (xs <= x2)
    return (rows[:, :, None] & columns[:, None]).flatten(1)
