"""Stage 2 as its publications describe it, written plainly: side A of the comparisons.

Our own naive code, after the description of CLIPSelf's training (arXiv 2310.01403) and of SCD:
crops are letterboxed by Pillow in the worker and shipped in a float32 template of 20 slots,
attention is two matrix products with a softmax between, and losses loop over regions. Every choice
is a switch of :class:`Ways`, so that each can be measured alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor
from torchvision.ops import roi_align

from . import scenes

NUM_SLOTS = 20  # crops that the template of one image holds


@dataclass(frozen=True)
class Ways:
    """Which parts of the step are done in the better way.

    Attributes:
        one_forward: One student forward serves both losses; otherwise each loss calls the student.
        sdpa: PyTorch's fused attention; otherwise :func:`eager_attention`.
        batched_losses: Regions go through the losses together; otherwise one at a time.
        device_crops: Crops come from the package's preprocessor; otherwise Pillow makes them.
    """

    one_forward: bool = False
    sdpa: bool = False
    batched_losses: bool = False
    device_crops: bool = False


def eager_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
) -> Tensor:
    """Attention that forms the whole (N, N) matrix: softmax(q k^T scale) v, (B, heads, N, d)."""
    assert attn_mask is None
    assert not dropout_p
    assert not is_causal
    scale = query.shape[-1] ** -0.5 if scale is None else scale
    return (query * scale @ key.transpose(-2, -1)).softmax(dim=-1) @ value


@contextmanager
def eager() -> Iterator[None]:
    """Run every library's attention through :func:`eager_attention`."""
    fused = F.scaled_dot_product_attention
    F.scaled_dot_product_attention = eager_attention
    try:
        yield
    finally:
        F.scaled_dot_product_attention = fused


def letterbox(image: Image.Image, size: int, centred: bool) -> Tensor:
    """Resize with Pillow until the image touches a square, pad with black, normalise: (3, s, s)."""
    scale = size / max(image.size)
    width, height = (max(round(side * scale), 1) for side in image.size)
    canvas = Image.new('RGB', (size, size))
    corner = ((size - width) // 2, (size - height) // 2) if centred else (0, 0)
    canvas.paste(image.resize((width, height), Image.Resampling.BICUBIC), corner)
    pixels = torch.from_numpy(np.asarray(canvas, np.float32)).permute(2, 0, 1)
    mean, std = (torch.tensor(value)[:, None, None] for value in (scenes.MEAN, scenes.STD))
    return ((pixels - mean) / std).contiguous()


def loader_item(image: Image.Image, boxes: Tensor, image_size: int, crop_size: int) -> dict:
    """What the worker ships for one picture.

    Returns:
        ``image`` (3, s, s), ``crops`` (20, 3, c, c) float32 with zeros in unused slots, ``valid``
        (20,), and ``boxes`` (20, 4) in [0, 1] of the canvas.
    """
    crops = torch.zeros(NUM_SLOTS, 3, crop_size, crop_size)
    canvas_boxes, valid = torch.zeros(NUM_SLOTS, 4), torch.zeros(NUM_SLOTS, dtype=torch.bool)
    sides = torch.tensor([image.width, image.height] * 2)
    scale = image_size / max(image.size)
    extent = torch.tensor([round(image.width * scale), round(image.height * scale)] * 2)
    for slot, box in enumerate(boxes[:NUM_SLOTS]):
        pixels = [round(value) for value in (box.double() * sides).tolist()]
        crops[slot] = letterbox(image.crop(pixels), crop_size, centred=True)
        canvas_boxes[slot] = box * extent / image_size
        valid[slot] = True
    return dict(
        image=letterbox(image, image_size, centred=False),
        crops=crops,
        boxes=canvas_boxes,
        valid=valid,
    )


def stage2_losses(model: Any, data: dict[str, list[Any]], ways: Ways) -> dict[str, Tensor]:
    """Losses of an R-SC-CLIPSelf step.

    Args:
        model: A :class:`RegionAlignment`, whose weights are used and none of whose methods.
        data: What the package's loader ships.
        ways: What is done better than plainly.
    """
    images, crops, boxes = _pixels(model, data, ways)
    student, teacher = model.student, model.teacher
    with nullcontext() if ways.sdpa else eager():
        with torch.no_grad():
            crop_embeddings = teacher.visual.image_embedding(crops)
            refined = teacher.dense(images)
        student_map = student.dense(images)
        second_map = student_map if ways.one_forward else student.dense(images)
    size = model.scd.roi_size
    pooled = _pool(student_map, boxes, 1).flatten(1)
    tokens, targets = (
        _pool(maps, boxes, size).flatten(2).transpose(1, 2) for maps in (second_map, refined)
    )
    if ways.batched_losses:
        return dict(
            loss_rla=_rla(pooled, crop_embeddings).mean(),
            loss_scd=_scd(tokens, targets, model.scd).mean(),
        )
    rows = range(len(boxes))
    rla = [_rla(pooled[i], crop_embeddings[i]) for i in rows]
    scd = [_scd(tokens[i], targets[i], model.scd) for i in rows]
    return dict(loss_rla=torch.stack(rla).mean(), loss_scd=torch.stack(scd).mean())


def _pixels(model: Any, data: dict[str, list[Any]], ways: Ways) -> tuple[Tensor, Tensor, Tensor]:
    """Images (B, 3, s, s), crops (R, 3, c, c) and boxes (R, 5) in [0, 1] of the canvas."""
    if ways.device_crops:
        batch = model.data_preprocessor(data, True)['inputs']
        return batch.images, batch.crops, batch.boxes
    sizes = model.data_preprocessor.image_size[0], model.data_preprocessor.crop_size[0]
    items = [
        loader_item(Image.fromarray(picture.permute(1, 2, 0).numpy()), boxes, *sizes)
        for picture, boxes in zip(data['inputs'], data['boxes'], strict=True)
    ]
    batch = {key: torch.stack([item[key] for item in items]) for key in items[0]}
    owner = batch['valid'].nonzero()[:, :1].float()
    boxes = torch.cat([owner, batch['boxes'][batch['valid']]], dim=1)
    return batch['image'], batch['crops'][batch['valid']], boxes


def _pool(maps: Tensor, boxes: Tensor, size: int) -> Tensor:
    height, width = maps.shape[-2:]
    scaled = boxes * boxes.new_tensor([1, width, height, width, height])
    return roi_align(F.normalize(maps, dim=1), scaled, size, sampling_ratio=-1, aligned=True)


def _rla(pooled: Tensor, crops: Tensor) -> Tensor:
    return 1 - F.cosine_similarity(pooled, crops, dim=-1)


def _scd(student: Tensor, teacher: Tensor, scd: Any) -> Tensor:
    """Cross-entropy of the row-wise softmax of cosines, (..., L, D) to (...)."""
    source, target = (F.normalize(tokens, dim=-1) for tokens in (student, teacher))
    source, target = (tokens @ tokens.transpose(-2, -1) for tokens in (source, target))
    p_target = (target / scd.options['teacher_temperature']).softmax(dim=-1)
    log_p = (source / scd.options['student_temperature']).log_softmax(dim=-1)
    return -(p_target * log_p).sum(dim=-1).mean(dim=-1)
