"""What the Refiner learns: tokens of the whole image should look as they do in a close-up."""

from __future__ import annotations

import logging

import torch
from mmengine.logging import print_log
from mmengine.registry import MODELS
from torch import Tensor, nn
from torch.nn import functional as F

from ..processes import gather_with_owners

KINDS = ('infonce', 'cosine')
NEGATIVES = ('other-images', 'same-crop')


def sample_bank(targets: Tensor, image_index: Tensor, num_per_image: int) -> tuple[Tensor, Tensor]:
    """Draw cells of every image as negatives for the others.

    Args:
        targets: (R, L, D) target tokens.
        image_index: (R,) image of each region.
        num_per_image: Cells drawn without replacement per image (all, when it has fewer).

    Returns:
        The cells (M, D) and the image of each (M,).
    """
    cells, owner = targets.flatten(0, 1), image_index.repeat_interleave(targets.shape[1])
    picks = [owner.new_zeros(0, dtype=torch.long)]
    for image in image_index.unique():
        of_image = (owner == image).nonzero().flatten()
        # Drawn on the CPU: DistillationModel seeds that generator per iteration.
        order = torch.randperm(len(of_image))[:num_per_image].to(of_image.device)
        picks.append(of_image[order])
    chosen = torch.cat(picks)
    return cells[chosen], owner[chosen]


@MODELS.register_module()
class RefineLoss(nn.Module):
    """Global-to-local alignment of the Refiner, per token of a region.

    The refined tokens of the whole image, pooled at a box, are matched with the frozen tokens of
    the resized crop of that box. ``'infonce'`` contrasts each cell with cells of *other images*,
    those of other processes among them; ``'cosine'`` only pulls. The paper's own distance is
    unknown to us.

    Args:
        kind: ``'infonce'`` or ``'cosine'``. Not stated in the paper; InfoNCE from the pilot on real
            photos, where cosine came a clear second.
        negatives: ``'other-images'``, or ``'same-crop'`` for the record only: both pilots saw it
            destroy the map (neighbours on one object become negatives), hence a warning.
        temperature: Not stated in the paper; 0.2 from the pilots (and UniRefiner).
        num_negatives_per_image: Cells drawn from each other image. Not stated in the paper; 32 from
            the pilot on real photos (224 from 7 other images).
        roi_size: Side of the RoIAlign grid. Not stated in the paper; 8 from the pilots.
        loss_weight: Not stated in the paper; 1.

    Raises:
        ValueError: On an unknown ``kind`` or ``negatives``, or a temperature <= 0.
    """

    def __init__(
        self,
        kind: str = 'infonce',
        negatives: str = 'other-images',
        temperature: float = 0.2,
        num_negatives_per_image: int = 32,
        roi_size: int = 8,
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__()
        if kind not in KINDS:
            raise ValueError(f'kind: expected one of {KINDS}, got {kind!r}')
        if negatives not in NEGATIVES:
            raise ValueError(f'negatives: expected one of {NEGATIVES}, got {negatives!r}')
        if temperature <= 0:
            raise ValueError(f'temperature: expected a value > 0, got {temperature}')
        if kind == 'infonce' and negatives == 'same-crop':
            print_log(
                "RefineLoss(negatives='same-crop') pushes the tokens of one segment apart: it "
                'destroyed the map in every pilot. Use it for comparison only.',
                logger='current',
                level=logging.WARNING,
            )
        self.kind = kind
        self.negatives = negatives
        self.temperature = temperature
        self.num_negatives_per_image = num_negatives_per_image
        self.roi_size = roi_size
        self.loss_weight = loss_weight
        self._warned = False

    def forward(
        self,
        refined: Tensor,
        target: Tensor,
        image_index: Tensor,
        avg_factor: float | Tensor | None = None,
    ) -> Tensor:
        """Compute the weighted loss.

        Args:
            refined: Refined tokens of the whole image pooled at each box (R, L, D), any norm.
            target: Frozen tokens of each crop on the same grid (R, L, D); receives no gradient.
            image_index: Image of each region (R,).
            avg_factor: Divisor of the sum over regions; default R.

        Returns:
            Scalar, float32, mean over the L cells of a region. Zero (connected to the graph) when R
            is 0, or when InfoNCE has no other image to draw negatives from.
        """
        num_regions = refined.shape[0]
        target = F.normalize(target.detach().float(), dim=-1)
        bank = self._bank(target, image_index)
        if num_regions == 0:
            return refined.sum() * 0.0
        with torch.autocast(refined.device.type, enabled=False):
            refined = F.normalize(refined.float(), dim=-1)
            positive = (refined * target).sum(dim=-1)
            if self.kind == 'cosine':
                per_cell = 1 - positive
            elif bank is None:
                logits = refined @ target.transpose(1, 2) / self.temperature
                per_cell = logits.logsumexp(dim=-1) - positive / self.temperature
            else:
                per_cell = self._cross_image_infonce(refined, positive, image_index, *bank)
        divisor = num_regions if avg_factor is None else avg_factor
        return self.loss_weight * per_cell.mean(dim=1).sum() / divisor

    def _bank(self, target: Tensor, image_index: Tensor) -> tuple[Tensor, Tensor] | None:
        """Negatives (M, D) of all processes and the image (M,) of each, -1 in another process.

        Collective, so a process without a region takes part. None for a loss without negatives of
        other images.
        """
        if self.kind == 'cosine' or self.negatives == 'same-crop':
            return None
        cells, owner = sample_bank(target, image_index, self.num_negatives_per_image)
        return gather_with_owners(cells, owner)

    def _cross_image_infonce(
        self, refined: Tensor, positive: Tensor, image_index: Tensor, bank: Tensor, owner: Tensor
    ) -> Tensor:
        if (owner == image_index[0]).all() and not self._warned:
            self._warned = True
            print_log(
                'RefineLoss: a step on one image has no negatives from other images and teaches '
                'nothing; give it two images or more, in one process or in several (accumulation '
                'does not help)',
                logger='current',
                level=logging.WARNING,
            )
        negatives = (refined @ bank.T).masked_fill(
            (image_index[:, None] == owner[None])[:, None], float('-inf')
        )
        logits = torch.cat([positive[..., None], negatives], dim=-1) / self.temperature
        return logits.logsumexp(dim=-1) - logits[..., 0]
