"""CAT-Seg as its paper and its released recipe describe it, step by step and all at once.

The plain side of the comparisons in ``segmentation.py``, and what the tests hold the package to:
guidance repeated for every class, padding classes run like any other, shifted windows rolled and
masked, softmax written out, all views and classes at once, every class up-sampled to label size.
Weights come from the package's modules, the image tower is OpenAI's as open_clip builds it. Shapes:
B images, T classes, (h, w) token grid, C channels.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor


def tower_block(block: Any, x: Tensor, value_only: bool = False) -> Tensor:
    """One block of OpenAI's image tower on tokens ``(B, N, C)``.

    ``value_only``, the last block: attention is replaced by the value path, and every token takes
    the class token's residual.
    """
    attn, heads = block.attn, block.attn.num_heads
    fused = F.linear(block.ln_1(x), attn.in_proj_weight, attn.in_proj_bias)
    q, k, v = (part.unflatten(-1, (heads, -1)).transpose(1, 2) for part in fused.chunk(3, dim=-1))
    if value_only:
        mixed, x = v, x[:, :1]
    else:
        mixed = (q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5).softmax(-1) @ v
    x = x + attn.out_proj(mixed.transpose(1, 2).flatten(2))
    return x + block.mlp(block.ln_2(x))


def image_tower(backbone: Any, images: Tensor) -> tuple[Tensor, list[Tensor]]:
    """Dense embeddings ``(B, D, h, w)``, and the maps of the blocks that guide."""
    visual = backbone.visual
    tokens, grid = visual.embed(images)
    maps, last = [], len(visual.blocks) - 1
    for index, block in enumerate(visual.blocks):
        tokens = tower_block(block, tokens, value_only=index == last)
        if index in backbone.out_indices[:-1]:
            maps.append(visual.to_map(tokens, grid))
    return visual.to_map(visual.project(tokens), grid), maps


def repeated(guidance: Tensor, times: int) -> Tensor:
    """Repeat ``(B, ...)`` for every class: ``(B * times, ...)``."""
    return guidance.repeat_interleave(times, dim=0)


def region_mask(height: int, width: int, window: int, shift: int) -> Tensor:
    """Mask of the rolled windows ``(K, n, n)``: -100 between positions that roll put together."""
    regions = torch.zeros(height, width)
    bands = ((0, -window), (-window, -shift), (-shift, None))
    for i, rows in enumerate(bands):
        for j, columns in enumerate(bands):
            regions[slice(*rows), slice(*columns)] = 3 * i + j
    cut = cut_windows(regions[None, ..., None], window)[..., 0]
    return torch.where(cut[:, None] == cut[:, :, None], 0.0, -100.0)


def cut_windows(x: Tensor, window: int) -> Tensor:
    """Cut ``(M, h, w, C)`` into ``(M * K, window * window, C)``."""
    x = x.unflatten(2, (-1, window)).unflatten(1, (-1, window))
    return x.transpose(2, 3).reshape(-1, window * window, x.shape[-1])


def join_windows(x: Tensor, window: int, height: int, width: int) -> Tensor:
    """Undo :func:`cut_windows`."""
    x = x.view(-1, height // window, width // window, window, window, x.shape[-1])
    return x.transpose(2, 3).reshape(-1, height, width, x.shape[-1])


def swin_block(block: Any, x: Tensor, guidance: Tensor) -> Tensor:
    """One block on ``(M, h, w, C)`` with guidance ``(M, h, w, G)``."""
    height, width = x.shape[1:3]
    window, shift = block.window_size, block.shift
    if min(height, width) <= window:
        window, shift = min(height, width), 0
    y = torch.cat([block.norm1(x), guidance], dim=-1)
    y = cut_windows(torch.roll(y, (-shift, -shift), (1, 2)), window)
    attn = block.attn
    q, k, v = (
        part.unflatten(-1, (attn.num_heads, -1)).transpose(1, 2)
        for part in (attn.q(y), attn.k(y), attn.v(y[..., : x.shape[-1]]))
    )
    scores = q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5
    if shift:
        mask = region_mask(height, width, window, shift)
        scores = (scores.unflatten(0, (-1, len(mask))) + mask[None, :, None]).flatten(0, 1)
    mixed = attn.proj((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))
    mixed = torch.roll(join_windows(mixed, window, height, width), (shift, shift), (1, 2))
    x = x + mixed
    return x + block.mlp(block.norm2(x))


def spatial_aggregation(module: Any, x: Tensor, guidance: Tensor) -> Tensor:
    """Two blocks on ``(B, T, h, w, C)``, the guidance ``(B, h, w, G)`` repeated for each class."""
    shape = x.shape
    guidance = module.guidance_norm(repeated(guidance, shape[1]))
    x = x.flatten(0, 1)
    for block in module.blocks:
        x = swin_block(block, x, guidance)
    return x.view(shape)


def class_aggregation(module: Any, x: Tensor, text: Tensor) -> Tensor:
    """Class attention on ``(B, T, h, w, C)`` with text ``(B, T, G)``, padding classes included."""
    batch, classes, height, width, dims = x.shape
    size = module.pooling_size if module.training else module.test_pooling_size
    maps = F.avg_pool2d(x.flatten(0, 1).permute(0, 3, 1, 2), size)
    small = maps.shape[2:]
    y = maps.unflatten(0, (batch, classes)).permute(0, 1, 3, 4, 2)  # (B, T, h', w', C)
    missing = module.pad_len - classes
    if missing > 0:
        padding = module.padding_token.expand(batch, missing, *small, dims)
        y = torch.cat([y, padding], dim=1)
        text = torch.cat([text, module.padding_guidance.expand(batch, missing, -1)], dim=1)
    y = y.permute(0, 2, 3, 1, 4).flatten(0, 2)  # (B * h' * w', T + pads, C)
    text = repeated(text, small[0] * small[1])
    attn, normed = module.attn, module.norm1(y)
    both = torch.cat([normed, text], dim=-1)
    q, k, v = (
        part.unflatten(-1, (attn.num_heads, -1))
        for part in (F.elu(attn.q(both)) + 1, F.elu(attn.k(both)) + 1, attn.v(normed))
    )
    summed = torch.einsum('pthd,pthe->phde', k, v / v.shape[1])
    mixed = torch.einsum('pthd,phde->pthe', q, summed) * v.shape[1]
    total = torch.einsum('pthd,phd->pth', q, k.sum(1)) + 1e-6
    y = y + (mixed / total[..., None]).flatten(2)
    y = y + module.mlp(module.norm2(y))
    maps = y.view(batch, *small, -1, dims).permute(0, 3, 4, 1, 2).flatten(0, 1)
    maps = F.interpolate(maps, (height, width), mode='bilinear', align_corners=True)
    return x + maps.permute(0, 2, 3, 1).unflatten(0, (batch, -1))[:, :classes]


def decoder_stage(stage: Any, x: Tensor, guidance: Tensor) -> Tensor:
    """One up-sampling stage on ``(B * T, C, h, w)``."""
    x = torch.cat([stage.up(x), repeated(guidance, len(x) // len(guidance))], dim=1)
    x = stage.norm1(stage.conv1(x)).relu()
    return stage.norm2(stage.conv2(x)).relu()


def aggregate(module: Any, image: Tensor, text: Tensor, guidance: list[Tensor]) -> Tensor:
    """Logits ``(B, C, 4h, 4w)`` of all classes; arguments as ``CostAggregator`` takes them."""
    text = text.expand(len(image), -1, -1)
    num_classes, chosen = text.shape[1], None
    similarity = torch.einsum('bdhw,btd->bthw', F.normalize(image, dim=1), text)
    if module.pad_len and num_classes > module.pad_len:
        chosen = similarity.flatten(2).max(-1).values.topk(module.pad_len).indices
        text = torch.stack([rows[index] for rows, index in zip(text, chosen, strict=True)])
        similarity = torch.einsum('bdhw,btd->bthw', F.normalize(image, dim=1), text)
    classes = text.shape[1]
    x = module.cost_embedding(similarity.flatten(0, 1)[:, None])
    x = x.permute(0, 2, 3, 1).unflatten(0, (-1, classes))
    appearance = module.appearance_projection(image).relu().permute(0, 2, 3, 1)
    text = module.text_projection(text).relu()
    for layer in module.layers:
        x = spatial_aggregation(layer.spatial, x, appearance)
        x = class_aggregation(layer.classes, x, text)
    x = x.permute(0, 1, 4, 2, 3).flatten(0, 1)
    decoder = module.decoder
    for stage, projection, maps in zip(decoder.stages, decoder.projections, guidance, strict=True):
        x = decoder_stage(stage, x, projection(maps).relu())
    logits = decoder.head(x)[:, 0].unflatten(0, (-1, classes))
    if chosen is None:
        return logits
    full = torch.full((len(image), num_classes, *logits.shape[2:]), -100.0)
    for row, index, values in zip(full, chosen, logits, strict=True):
        row[index] = values
    return full


def bilinear(x: Tensor, size: Any) -> Tensor:
    """Resize ``(B, C, H, W)``."""
    return F.interpolate(x, size, mode='bilinear', align_corners=False)


def merge(logits: Tensor, size: int, window: int, stride: int, label_size: Any) -> Tensor:
    """Probabilities ``(C, H, W)`` from logits ``(K + 1, C, h, w)``, the global view last."""
    fold = torch.nn.Fold((size, size), window, stride=stride)
    cut = torch.nn.Unfold(window, stride=stride)
    probabilities = bilinear(logits, (window, window)).sigmoid()
    whole = bilinear(probabilities[-1:], (size, size))
    merged = fold(probabilities[:-1].flatten(1).T) / fold(cut(torch.ones(1, 1, size, size)))
    return bilinear((merged.view_as(whole) + whole) / 2, label_size)[0]


def segment(
    model: Any, image: Tensor, text: Tensor, label_size: Any, size: int, window: int, stride: int
) -> Tensor:
    """Probabilities ``(C, H, W)`` of one image ``(3, h, w)`` by windows and a global view."""
    cut = torch.nn.Unfold(window, stride=stride)
    windows = cut(bilinear(image[None], (size, size)))[0].T.unflatten(1, (3, window, window))
    views = torch.cat([windows, bilinear(image[None], (window, window))])
    dense, intermediate = image_tower(model.backbone, bilinear(views, model.input_size))
    head = model.decode_head
    guidance = [up(x) for up, x in zip(head.guidance_upsample, intermediate, strict=True)]
    logits = aggregate(head.aggregator, dense, text, guidance)
    return merge(logits, size, window, stride, label_size)
