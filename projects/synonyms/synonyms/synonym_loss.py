"""Where a class lights up under its label, held to where it does under all its names."""

from __future__ import annotations

import torch
from mmengine.registry import MODELS
from torch import Tensor
from torch.nn import functional as F

from refineclip.distill.losses.late_term import LateTerm


def refine_scores(
    scores: Tensor, vision: Tensor, valid: Tensor | None, top_k: int, share: float
) -> Tensor:
    """Sharpen score maps by what a vision model sees as one thing.

    Of each class the ``top_k`` tokens with the highest scores are taken; the mean cosine of all
    tokens to those, in the vision model's map, is blended with the scores.

    Args:
        scores: (B, N, C) scores of N tokens for C classes.
        vision: (B, N, V) the vision model's tokens, any norm.
        valid: (B, N) bool, tokens that may be taken; all by default.
        top_k: How many tokens.
        share: Share of the vision model's cosines in the blend, in [0, 1].

    Returns:
        (B, N, C).
    """
    vision = F.normalize(vision.float(), dim=-1)
    allowed = scores if valid is None else scores.masked_fill(~valid[..., None], float('-inf'))
    index = allowed.topk(min(top_k, scores.shape[1]), dim=1).indices  # (B, k, C)
    flat = index.flatten(1)[..., None].expand(-1, -1, vision.shape[-1])
    chosen = vision.gather(1, flat).unflatten(1, index.shape[1:]).mean(dim=1)  # (B, C, V)
    return share * vision @ chosen.transpose(1, 2) + (1 - share) * scores


@MODELS.register_module()
class SynonymLoss(LateTerm):
    """Mean absolute difference of two score maps.

    Paper: SynCLIP, CVPR 2026, arXiv 2607.11008: the semantic alignment of attention, and its
    refinement by a vision model.

    Args:
        loss_weight: 0.05, as published.
        start: Share of the training after which the term sets in.
        top_k: Tokens of each class in the refinement; 7, as published.
        share: Share of the vision model in the refined scores; 0.5, as published.

    Raises:
        ValueError: If ``top_k`` < 1, or a share is out of its range.
    """

    def __init__(
        self, loss_weight: float = 0.05, start: float = 0.0, top_k: int = 7, share: float = 0.5
    ) -> None:
        super().__init__(loss_weight, start)
        if top_k < 1:
            raise ValueError(f'top_k: expected 1 or more, got {top_k}')
        if not 0 <= share <= 1:
            raise ValueError(f'share: expected a value in [0, 1], got {share}')
        self.top_k = top_k
        self.share = share

    def forward(
        self,
        student: Tensor,
        target: Tensor,
        valid: Tensor | None = None,
        avg_factor: float | Tensor | None = None,
    ) -> Tensor:
        """Compute the weighted loss.

        Args:
            student: (B, N, C) scores of the student's tokens for the labels.
            target: (B, N, C) scores to reach; receives no gradient.
            valid: (B, N) bool, tokens that count; all by default.
            avg_factor: Divisor of the sum over images; default B.

        Returns:
            Scalar, float32.
        """
        per_token = (student.float() - target.detach().float()).abs().mean(dim=-1)
        kept = torch.ones_like(per_token) if valid is None else valid.to(per_token.dtype)
        per_image = (per_token * kept).sum(dim=1) / kept.sum(dim=1).clamp(min=1)
        return (
            self.loss_weight
            * per_image.sum()
            / (len(student) if avg_factor is None else avg_factor)
        )
