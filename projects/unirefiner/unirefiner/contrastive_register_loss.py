"""Contrast of image tokens with clean teacher tokens, and of registers with spurious ones."""

from __future__ import annotations

import torch
from mmengine.registry import MODELS
from torch import Tensor, nn


def without_slope_below(cosine: Tensor, threshold: Tensor | float) -> Tensor:
    """The same values, with no gradient where a cosine is below the threshold already."""
    return torch.where(cosine < threshold, cosine.detach(), cosine)


def mean_of_pairs(tokens: Tensor) -> Tensor:
    """Mean cosine of unit tokens (M, D) paired with the reversed list: how alike tokens are."""
    return (tokens * tokens.flip(0)).sum(dim=-1).mean()


@MODELS.register_module()
class ContrastiveRegisterLoss(nn.Module):
    """UniRefiner's two contrasts and what keeps image tokens and registers apart.

    Image: a student's token of a crop is drawn to its teacher token and pushed from those tokens of
    the teacher's image that it resembles more than two teacher tokens do on average. Registers:
    each is drawn to the spurious token it resembles most, against those of the other registers.
    Apart: no image token may resemble a register more than ``apart_threshold``.

    Paper: UniRefiner, arXiv 2605.19622. Its published code also draws registers to crop tokens with
    a small weight, which is left out here.

    Args:
        temperature: 0.2, as published.
        uniformity_weight: Weight of the push from other tokens of the teacher's image; 1 is the
            published default, 0.3 its SigLIP 2 preset.
        register_weight: Weight of the registers' contrast; 0.1 in the published code.
        apart_weight: Weight of keeping registers apart; 1 in the published code.
        apart_threshold: Cosine below which they are apart; 0.55 in the published code.
        loss_weight: Factor on all of it.

    Raises:
        ValueError: If ``temperature`` is not positive.
    """

    def __init__(
        self,
        temperature: float = 0.2,
        uniformity_weight: float = 1.0,
        register_weight: float = 0.1,
        apart_weight: float = 1.0,
        apart_threshold: float = 0.55,
        loss_weight: float = 1.0,
    ) -> None:
        super().__init__()
        if temperature <= 0:
            raise ValueError(f'temperature: expected a value > 0, got {temperature}')
        self.temperature = temperature
        self.uniformity_weight = uniformity_weight
        self.register_weight = register_weight
        self.apart_weight = apart_weight
        self.apart_threshold = apart_threshold
        self.loss_weight = loss_weight

    def of_crops(
        self,
        student: Tensor,
        target: Tensor,
        clean: Tensor,
        others: Tensor,
        avg_factor: float | Tensor | None = None,
    ) -> Tensor:
        """Contrast of image tokens.

        Args:
            student: (R, L, D) student tokens of R crops, unit length.
            target: (R, L, D) teacher tokens of the same places, unit length, no gradient.
            clean: (R, L) bool, tokens to learn from; all, where there is none in the batch.
            others: (R, N, D) teacher tokens of each crop's image.
            avg_factor: Divisor of the sum over crops; default R.

        Returns:
            Scalar, float32; zero (connected) when R is 0.
        """
        if len(student) == 0:
            return student.sum() * 0.0
        clean = clean if clean.any() else torch.ones_like(clean)
        usual = mean_of_pairs(target[clean])
        drawn = (student * target).sum(dim=-1) / self.temperature
        pushed = without_slope_below(student @ others.transpose(1, 2), usual) / self.temperature
        per_token = self.uniformity_weight * pushed.logsumexp(dim=-1) - drawn
        per_crop = (per_token * clean).sum(dim=1) / clean.sum(dim=1).clamp(min=1)
        return (
            self.loss_weight * per_crop.sum() / (len(student) if avg_factor is None else avg_factor)
        )

    def of_registers(
        self, registers: Tensor, spurious: Tensor, avg_factor: float | Tensor | None = None
    ) -> Tensor:
        """Contrast of registers.

        Args:
            registers: (R, Q, D) register tokens of each crop's image, unit length.
            spurious: (R, S, D) spurious teacher tokens, unit length, no gradient.
            avg_factor: Divisor of the sum over crops; default R.

        Returns:
            Scalar, float32; zero (connected) when R is 0.
        """
        if len(registers) == 0:
            return registers.sum() * 0.0
        cosine = registers @ spurious.transpose(1, 2) / self.temperature
        drawn, index = cosine.max(dim=-1)
        # Columns of the spurious tokens that the other registers are drawn to.
        against = cosine.gather(2, index[:, None].expand(-1, registers.shape[1], -1))
        per_crop = (against.logsumexp(dim=-1) - drawn).mean(dim=1)
        divisor = len(registers) if avg_factor is None else avg_factor
        return self.loss_weight * self.register_weight * per_crop.sum() / divisor

    def apart(
        self, image: Tensor, registers: Tensor, avg_factor: float | Tensor | None = None
    ) -> Tensor:
        """Keep image tokens and registers apart.

        Args:
            image: (B, N, D) tokens of the image, unit length.
            registers: (B, Q, D) register tokens, unit length.
            avg_factor: Divisor of the sum over images; default B.

        Returns:
            Scalar, float32.
        """
        cosine = without_slope_below(image @ registers.transpose(1, 2), self.apart_threshold)
        per_image = (cosine / self.temperature).logsumexp(dim=-1).mean(dim=1)
        divisor = len(image) if avg_factor is None else avg_factor
        return self.loss_weight * self.apart_weight * per_image.sum() / divisor
