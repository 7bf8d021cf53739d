"""The score of a box at test time: the detector's and the CLIP map's opinion in one number."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F
from torchvision.ops import roi_align


def fuse_scores(
    det_scores: Tensor, vlm_scores: Tensor, is_base: Tensor, alpha: float, beta: float
) -> Tensor:
    """Weighted geometric mean per class, not renormalised: a row may sum to less than 1.

    Base classes and the background: ``det ** (1 - alpha) * vlm ** alpha``; the detector has learned
    them. Novel classes: ``beta`` in place of ``alpha``; the detector has never seen them, so the
    CLIP map speaks louder. Source: F-VLM, as F-ViT (CLIPSelf) uses it.

    Args:
        det_scores: Probabilities (R, C + 1) of the detection head, background last.
        vlm_scores: Probabilities (R, C + 1) of the frozen map, background last.
        is_base: (C,) bool, the classes that were trained.
        alpha: Share of the CLIP map for base classes and background, in [0, 1].
        beta: Share of the CLIP map for novel classes, in [0, 1].

    Returns:
        Scores (R, C + 1) in [0, 1].
    """
    known = torch.cat([is_base, is_base.new_ones(1)])
    return fuse_columns(det_scores, vlm_scores, known, alpha, beta)


def fuse_columns(
    det_scores: Tensor, vlm_scores: Tensor, known: Tensor, alpha: float, beta: float
) -> Tensor:
    """:func:`fuse_scores` where each column, the background's too, says whether it is known."""
    share = torch.where(known, alpha, beta).to(det_scores)
    return det_scores ** (1 - share) * vlm_scores**share


def cosine_logits(features: Tensor, embeddings: Tensor, temperature: Tensor | float) -> Tensor:
    """Cosine of features (R, D) and L2-normalised text (C, D), times ``temperature``; float32."""
    with torch.autocast(features.device.type, enabled=False):
        return F.normalize(features.float(), dim=1) @ embeddings.float().T * temperature


def pool_vlm_map(vlm_map: Tensor, rois: Tensor, stride: float) -> Tensor:
    """Mean embedding of each box: RoIAlign to 1 x 1 of the L2-normalised map.

    Args:
        vlm_map: Embedding map (B, D, h, w).
        rois: (R, 5) rows ``[image index, x1, y1, x2, y2]``, pixels of the padded input.
        stride: Pixels of the input per token; a patch.

    Returns:
        Features (R, D), float32, not normalised.
    """
    # In float32: half precision would move box edges by a good part of a token.
    maps = F.normalize(vlm_map.float(), dim=1)
    pooled = roi_align(maps, rois.float(), 1, 1 / stride, sampling_ratio=-1, aligned=True)
    return pooled.flatten(1)
