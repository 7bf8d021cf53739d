"""Spatial Correlation Distillation: keep how the tokens of a region relate to each other."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from mmengine.registry import MODELS
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

NORMALIZATIONS = ('none', 'minmax')
DIVERGENCES = ('ce', 'kl', 'mse')


def spatial_correlation(tokens: Tensor, detach_keys: bool = False) -> Tensor:
    """Cosine of every token to every token of the same region.

    Args:
        tokens: (R, L, D), any norm.
        detach_keys: Send no gradient through the second factor (the keys).

    Returns:
        (R, L, L), values in [-1, 1]; row j holds the cosines of token j.
    """
    tokens = F.normalize(tokens.float(), dim=-1)
    keys = tokens.detach() if detach_keys else tokens
    return tokens @ keys.transpose(1, 2)


def minmax_rows(correlation: Tensor, eps: float = 1e-6) -> Tensor:
    """Scale each row of (R, L, L) to [0, 1]."""
    low = correlation.amin(dim=-1, keepdim=True)
    high = correlation.amax(dim=-1, keepdim=True)
    return (correlation - low) / (high - low + eps)


def scd_loss(
    student: Tensor,
    teacher: Tensor,
    student_temperature: float = 0.1,
    teacher_temperature: float = 0.1,
    normalize: str = 'none',
    detach_keys: bool = False,
    divergence: str = 'ce',
) -> Tensor:
    """Distil the token-token correlations of each region from teacher to student.

    ``p = softmax_k(cos(z_j, z_k) / temperature)`` for both sides; the loss is the cross-entropy of
    the student's rows under the teacher's (``'ce'``), that minus the teacher's entropy (``'kl'``:
    same gradient, zero at equality), or the squared difference of the raw correlations
    (``'mse'``). Correlations never cross regions or images. The teacher's and the student's D may
    differ.

    Paper: Refining CLIP's Spatial Awareness, arXiv 2504.02328; its equation was not available, this
    is the form inferred from published summaries of it.

    Args:
        student: (R, L, D).
        teacher: (R, L, D'), receives no gradient.
        student_temperature: Divisor of the student's cosines.
        teacher_temperature: Divisor of the teacher's cosines.
        normalize: ``'none'`` or ``'minmax'``: rows scaled to [0, 1] first, on both sides.
        detach_keys: No gradient through the student's keys.
        divergence: ``'ce'``, ``'kl'`` or ``'mse'``.

    Returns:
        (R,) loss per region, mean over its L rows, float32.
    """
    target = spatial_correlation(teacher.detach())
    source = spatial_correlation(student, detach_keys)
    if normalize == 'minmax':
        target, source = minmax_rows(target), minmax_rows(source)
    if divergence == 'mse':
        return (source - target).square().mean(dim=(1, 2))
    log_p_target = F.log_softmax(target / teacher_temperature, dim=-1)
    log_p_source = F.log_softmax(source / student_temperature, dim=-1)
    reference = log_p_target if divergence == 'kl' else 0.0
    return (log_p_target.exp() * (reference - log_p_source)).sum(dim=-1).mean(dim=-1)


@MODELS.register_module()
class SCDLoss(nn.Module):
    """Spatial Correlation Distillation over pooled regions; see :func:`scd_loss`.

    All regions go through one batched product while ``R * L * L`` stays under
    ``max_correlations``; above it they are streamed in chunks whose correlations are recomputed in
    the backward pass, so that memory grows with one chunk and not with the batch.

    Two published forms are one config away: the plain softmax form (defaults), and the min-max form
    of the first author's later UniRefiner: ``normalize='minmax', student_temperature=0.2,
    teacher_temperature=0.2, detach_keys=True, loss_weight=0.4``.

    Args:
        student_temperature: Not stated in the paper; default 0.1 from this project's pilots. For
            small differences the loss scales as ``loss_weight / temperature ** 2``: that ratio is
            the knob that matters.
        teacher_temperature: As above.
        normalize: ``'none'`` or ``'minmax'`` (rows scaled to [0, 1]). Not stated in the paper.
        detach_keys: No gradient through the keys. Not stated in the paper.
        divergence: ``'ce'``, ``'kl'`` or ``'mse'``. Not stated in the paper; ``'ce'`` inferred.
        roi_size: Side of the RoIAlign grid, ``L = roi_size ** 2``. Not stated in the paper; default
            8 from this project's pilots.
        loss_weight: Lambda. Not stated in the paper; 1 from the pilot on real photos.
        max_correlations: Elements of the largest (chunk, L, L) tensor kept at once.

    Raises:
        ValueError: On an unknown ``normalize`` or ``divergence``, or a temperature <= 0.
    """

    def __init__(
        self,
        student_temperature: float = 0.1,
        teacher_temperature: float = 0.1,
        normalize: str = 'none',
        detach_keys: bool = False,
        divergence: str = 'ce',
        roi_size: int = 8,
        loss_weight: float = 1.0,
        max_correlations: int = 2**25,
    ) -> None:
        super().__init__()
        if normalize not in NORMALIZATIONS:
            raise ValueError(f'normalize: expected one of {NORMALIZATIONS}, got {normalize!r}')
        if divergence not in DIVERGENCES:
            raise ValueError(f'divergence: expected one of {DIVERGENCES}, got {divergence!r}')
        if min(student_temperature, teacher_temperature) <= 0:
            raise ValueError(
                'temperatures: expected values > 0, '
                f'got {student_temperature} and {teacher_temperature}'
            )
        self.options: dict[str, Any] = dict(
            student_temperature=student_temperature,
            teacher_temperature=teacher_temperature,
            normalize=normalize,
            detach_keys=detach_keys,
            divergence=divergence,
        )
        self.roi_size = roi_size
        self.loss_weight = loss_weight
        self.max_correlations = max_correlations

    def forward(
        self, student: Tensor, teacher: Tensor, avg_factor: float | Tensor | None = None
    ) -> Tensor:
        """Compute the weighted loss.

        Args:
            student: Pooled student tokens (R, L, D).
            teacher: Pooled teacher tokens (R, L, D') at the same boxes.
            avg_factor: Divisor of the sum over regions; default R. Distributed training passes the
                mean R over processes, so that each region weighs the same in every process.

        Returns:
            Scalar, float32. Zero (connected to the graph) when R is 0.
        """
        if student.shape[:2] != teacher.shape[:2]:
            raise ValueError(
                'expected student and teacher tokens of the same regions and bins, got '
                f'{tuple(student.shape)} and {tuple(teacher.shape)}'
            )
        num_regions, num_bins = student.shape[:2]
        if num_regions == 0:
            return student.sum() * 0.0
        with torch.autocast(student.device.type, enabled=False):
            chunk = max(1, self.max_correlations // num_bins**2)
            if chunk >= num_regions:
                total = scd_loss(student, teacher, **self.options).sum()
            else:
                total = self._streamed_sum(student, teacher, chunk)
        return self.loss_weight * total / (num_regions if avg_factor is None else avg_factor)

    def _streamed_sum(self, student: Tensor, teacher: Tensor, chunk: int) -> Tensor:
        total = student.new_zeros((), dtype=torch.float32)
        compute = partial(scd_loss, **self.options)
        for student_chunk, teacher_chunk in zip(
            student.split(chunk), teacher.split(chunk), strict=True
        ):
            losses = checkpoint(compute, student_chunk, teacher_chunk, use_reentrant=False)
            total = total + losses.sum()
        return total
