"""Measures of a dense encoder that need no labels: agreement of regions with their close-ups."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812


@dataclass
class RegionAgreement:
    """How the tokens of regions in the whole image fit the tokens of the regions' close-ups.

    Attributes:
        own: Mean cosine to the close-up token of the same cell. Not comparable alone: a collapsed
            map reaches 1.
        margin: ``own`` minus the mean cosine to close-up tokens of other images; 0 for a collapsed
            map.
        top1: Share of tokens whose own close-up token is more similar than every close-up token
            of other images, in [0, 1]; ties do not count.
        chance: What ``top1`` would be for random tokens.
    """

    own: float
    margin: float
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
    if len(image_index.unique()) < 2:
        raise ValueError(
            f'expected regions of two or more images, got {len(image_index.unique())}; measure '
            'more images'
        )
    tokens, targets = F.normalize(tokens.float(), dim=-1), F.normalize(targets.float(), dim=-1)
    own = (tokens * targets).sum(dim=-1)
    other_means, hits, chances = [], [], []
    for image in image_index.unique():
        mine = image_index == image
        cosines = tokens[mine].flatten(0, 1) @ targets[~mine].flatten(0, 1).T
        other_means.append(cosines.mean(dim=1))
        hits.append(own[mine].flatten() > cosines.amax(dim=1))
        chances.append(torch.full((len(cosines),), 1 / (1 + cosines.shape[1])))
    mean_own = own.mean().item()
    return RegionAgreement(
        own=mean_own,
        margin=mean_own - torch.cat(other_means).mean().item(),
        top1=torch.cat(hits).float().mean().item(),
        chance=torch.cat(chances).mean().item(),
    )
