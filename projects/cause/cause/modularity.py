"""Modularity of the graph of an image's tokens, as a differentiable objective.

Legend: B images, N tokens, D channels, K concepts.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def affinity(tokens: Tensor) -> Tensor:
    """Edge weights between the tokens of each image: cosine, negative ones cut.

    Args:
        tokens: (B, N, D), any norm.

    Returns:
        (B, N, N) in [0, 1]. A token keeps the edge to itself, as in the description.
    """
    unit = F.normalize(tokens, dim=-1)
    return (unit @ unit.transpose(-1, -2)).clamp(min=0)


def modularity(weights: Tensor, agreement: Tensor) -> Tensor:
    r"""Newman's modularity of a soft partition.

    ``Q = 1/2e * sum_ij (A_ij - d_i d_j / 2e) s_ij`` with the degrees ``d`` and ``2e = sum A``. With
    ``s_ij = 1`` inside a cluster and 0 between clusters it is the modularity of graph theory.

    Args:
        weights: A, (B, N, N) symmetric, not negative.
        agreement: s, (B, N, N) how much two nodes share a cluster, in [0, 1].

    Returns:
        (B,) in [-1, 1]; 0 for a graph without edges.
    """
    degree = weights.sum(dim=-1)
    total = degree.sum(dim=-1)[:, None, None].clamp(min=torch.finfo(weights.dtype).tiny)
    expected = degree[:, :, None] * degree[:, None, :] / total
    return ((weights - expected) / total * agreement).sum(dim=(-1, -2))


def concept_agreement(tokens: Tensor, concepts: Tensor, temperature: float = 0.1) -> Tensor:
    """How much two tokens belong to the same concepts.

    Deviation: the assignment of a token is scaled to unit length. Without it the products grow
    with K, and the tanh of 2,048 random concepts starts saturated, where it has no gradient.

    Args:
        tokens: (B, N, D), any norm.
        concepts: (K, D), any norm.
        temperature: tau of ``tanh(<c_i, c_j> / tau)``; c_i is the cut cosine of token i to every
            concept, as a unit vector.

    Returns:
        (B, N, N) in [0, 1).
    """
    cosine = F.normalize(tokens, dim=-1) @ F.normalize(concepts, dim=-1).T
    assignment = F.normalize(cosine.clamp(min=0), dim=-1)
    return torch.tanh(assignment @ assignment.transpose(-1, -2) / temperature)


def modularity_loss(tokens: Tensor, concepts: Tensor, temperature: float = 0.1) -> Tensor:
    """Negative mean modularity of images under a set of concepts; gradient reaches the concepts.

    Args:
        tokens: (B, N, D) frozen tokens.
        concepts: (K, D).
        temperature: See :func:`concept_agreement`.

    Returns:
        Scalar in [-1, 1].
    """
    # Differences between 1 / N^2 and its neighbours: half precision would lose them.
    with torch.autocast(tokens.device.type, enabled=False):
        weights = affinity(tokens.float())
        agreement = concept_agreement(tokens.float(), concepts.float(), temperature)
        return -modularity(weights, agreement).mean()
