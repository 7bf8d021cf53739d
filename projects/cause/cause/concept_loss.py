"""Concept-wise contrast: like concepts together, unlike ones apart."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def concept_contrastive_loss(
    anchors: Tensor,
    candidates: Tensor,
    similarity: Tensor,
    positive_threshold: float,
    negative_threshold: float,
    temperature: float,
) -> Tensor:
    """Contrast of student features with teacher features whose concepts are near or far.

    For an anchor y: the mean over positives p of
    ``-log(exp(y.p / tau) / (exp(y.p / tau) + sum_n exp(y.n / tau)))``. An anchor without a positive
    or without a negative says nothing and is left out.

    Args:
        anchors: (A, P) student features, any norm.
        candidates: (M, P) teacher features, any norm, no gradient.
        similarity: (A, M) cosine between the anchor's and the candidate's concept.
        positive_threshold: At or above it a candidate is a positive.
        negative_threshold: Below it a candidate is a negative; in between it does not count.
        temperature: tau.

    Returns:
        Scalar: mean over the anchors that count, 0 (connected to the anchors) if none does.
    """
    with torch.autocast(anchors.device.type, enabled=False):
        student = F.normalize(anchors.float(), dim=-1)
        teacher = F.normalize(candidates.float(), dim=-1)
        logits = student @ teacher.T / temperature
        positive = similarity >= positive_threshold
        negative = similarity < negative_threshold
        far = logits.masked_fill(~negative, -torch.inf).logsumexp(dim=1, keepdim=True)
        per_pair = torch.logaddexp(logits, far) - logits
        count = positive.sum(dim=1)
        per_anchor = torch.where(positive, per_pair, 0.0).sum(dim=1) / count.clamp(min=1)
        counts = (count > 0) & negative.any(dim=1)
        return torch.where(counts, per_anchor, 0.0).sum() / counts.sum().clamp(min=1)
