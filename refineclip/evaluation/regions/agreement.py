"""Measures of a dense encoder that need no labels: agreement of regions with their close-ups."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass
class RegionAgreement:
    """How the tokens of regions in the whole image fit the tokens of the regions' close-ups.

    Attributes:
        cosine: Mean cosine to the close-up token of the same cell. A collapsed map reaches 1, so
            read it beside ``top1``, for which collapse is 0.
        top1: Share of tokens whose own close-up token is more similar than every close-up token
            of other images, in [0, 1]; ties do not count.
        chance: What ``top1`` would be for random tokens.
    """

    cosine: float
    top1: float
    chance: float


def region_agreement(tokens: Tensor, targets: Tensor, image_index: Tensor) -> RegionAgreement:
    """Compare region tokens with close-up tokens of the same cells and of other images.

    Args:
        tokens: (R, L, D) tokens of the whole image pooled at each region, any norm.
        targets: (R, L, D) tokens of each region's crop on the same grid, any norm.
        image_index: (R,) image of each region.

    Raises:
        ValueError: If the regions are of fewer than two images, so that there are no others.
    """
    images = image_index.unique()
    if len(images) < 2:
        raise ValueError(
            f'expected regions of two or more images, got {len(images)}; measure more images'
        )
    tokens, targets = F.normalize(tokens.float(), dim=-1), F.normalize(targets.float(), dim=-1)
    own = (tokens * targets).sum(dim=-1)
    hits, chances = [], []
    for image in images:
        mine = image_index == image
        others = tokens[mine].flatten(0, 1) @ targets[~mine].flatten(0, 1).T
        hits.append(own[mine].flatten() > others.amax(dim=1))
        chances.append(torch.full((len(others),), 1 / (1 + others.shape[1])))
    return RegionAgreement(
        cosine=own.mean().item(),
        top1=torch.cat(hits).float().mean().item(),
        chance=torch.cat(chances).mean().item(),
    )
