"""Spatial Correlation Distillation: keep how the tokens of a region relate to each other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from mmengine.registry import MODELS
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from refineclip.distill.roi_ops import pool_tokens

from .late_term import LateTerm

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
    student_temperature: float = 0.2,
    teacher_temperature: float = 0.2,
    normalize: str = 'minmax',
    detach_keys: bool = True,
    divergence: str = 'ce',
) -> Tensor:
    """Distil the token-token correlations of each region from teacher to student.

    ``p = softmax_k(c(z_j, z_k) / temperature)`` for both sides, ``c`` the cosine, by default with
    each row scaled to [0, 1]; the loss is the cross-entropy of the student's rows under the
    teacher's (``'ce'``), that minus the teacher's entropy (``'kl'``: same gradient, zero at
    equality), or the squared difference of ``c`` (``'mse'``). Correlations never cross regions or
    images. The teacher's and the student's D may differ.

    Paper: Refining CLIP's Spatial Awareness, arXiv 2504.02328; its equation was not available, this
    is the form inferred from published summaries of it.

    Args:
        student: (R, L, D).
        teacher: (R, L, D'), receives no gradient.
        student_temperature: Divisor of the student's ``c``.
        teacher_temperature: Divisor of the teacher's ``c``.
        normalize: ``'minmax'``: rows scaled to [0, 1] first, on both sides, or ``'none'``.
        detach_keys: No gradient through the student's keys.
        divergence: ``'ce'``, ``'kl'`` or ``'mse'``.

    Returns:
        (R,) loss per region, mean over its L rows, float32.
    """
    student, teacher = (F.normalize(tokens.float(), dim=-1) for tokens in (student, teacher))
    rows = _scd_rows(
        student,
        student.detach() if detach_keys else student,
        teacher,
        teacher,
        student_temperature=student_temperature,
        teacher_temperature=teacher_temperature,
        normalize=normalize,
        divergence=divergence,
    )
    return rows.mean(dim=-1)


def _scd_rows(
    student: Tensor,
    student_keys: Tensor,
    teacher: Tensor,
    teacher_keys: Tensor,
    student_temperature: float,
    teacher_temperature: float,
    normalize: str,
    divergence: str,
) -> Tensor:
    """Loss (R, l) of l query tokens (R, l, D) against the L keys (R, L, D), all L2-normalised."""
    scale = minmax_rows if normalize == 'minmax' else nn.Identity()
    with torch.no_grad():
        target = scale(teacher @ teacher_keys.transpose(1, 2))
    source = scale(student @ student_keys.transpose(1, 2))
    if divergence == 'mse':
        return (source - target).square().mean(dim=-1)
    p_target = (target / teacher_temperature).softmax(dim=-1)
    log_p_source = (source / student_temperature).log_softmax(dim=-1)
    # Not einsum, which saves one (R, l, L) tensor: it sums naively, and is off by up to 1e-5.
    cross_entropy = -(p_target * log_p_source).sum(dim=-1)
    if divergence == 'ce':
        return cross_entropy
    return cross_entropy - torch.special.entr(p_target).sum(dim=-1)


@dataclass(frozen=True)
class _Piece:
    """A part of the stream: which items of the inputs it needs, and how they become tokens.

    Attributes:
        items: Slice of the first dimension of both inputs.
        tokens: Maps those items to (R, L, D).
    """

    items: slice
    tokens: Callable[[Tensor], Tensor]


class _StreamedSum(torch.autograd.Function):
    """Sum of :func:`scd_loss` over the regions of all pieces, its gradient formed on the way.

    Nothing but the gradient waits for the backward pass.
    """

    @staticmethod
    def forward(
        ctx: Any,
        student: Tensor,
        teacher: Tensor,
        pieces: list[_Piece],
        max_correlations: int,
        options: dict[str, Any],
    ) -> Tensor:
        """Sum over regions, float32 scalar."""
        total = student.new_zeros((), dtype=torch.float32)
        # float32 whatever the input: a loss scale comes too late for what float16 has lost here.
        gradient = torch.zeros_like(student, dtype=torch.float32) if student.requires_grad else None
        for piece in pieces:
            part = student[piece.items].detach().float().requires_grad_(gradient is not None)
            with torch.enable_grad():
                tokens = F.normalize(piece.tokens(part), dim=-1)
            target = F.normalize(piece.tokens(teacher[piece.items]).float(), dim=-1)
            loss, slope = _sum_of_rows(tokens.detach(), target, max_correlations, **options)
            total += loss
            if gradient is not None:
                gradient[piece.items] += torch.autograd.grad(tokens, part, slope)[0]
        ctx.gradient, ctx.dtype = gradient, student.dtype
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        """Scale the gradient that the forward pass left."""
        if ctx.gradient is None:
            raise RuntimeError(
                'expected one backward pass through a streamed SCDLoss, got a second one; '
                'raise max_correlations to keep the graph'
            )
        # In place: a copy would double what streaming saves.
        gradient, ctx.gradient = ctx.gradient.mul_(grad_output), None
        return gradient.to(ctx.dtype), None, None, None, None


def _sum_of_rows(
    tokens: Tensor, target: Tensor, max_correlations: int, detach_keys: bool, **options: Any
) -> tuple[Tensor, Tensor]:
    """Sum of the loss over (R, L, D) L2-normalised tokens, and its gradient, by blocks of rows."""
    num_bins = tokens.shape[1]
    block = max(1, max_correlations // num_bins)
    total, slope = tokens.new_zeros(()), torch.zeros_like(tokens)
    for start in range(0, num_bins, block):
        rows = slice(start, start + block)
        with torch.enable_grad():
            leaf = tokens.detach().requires_grad_()
            keys = tokens if detach_keys else leaf
            loss = _scd_rows(leaf[:, rows], keys, target[:, rows], target, **options).sum()
        total += loss.detach()
        slope += torch.autograd.grad(loss, leaf)[0]
    return total / num_bins, slope.div_(num_bins)


@MODELS.register_module()
class SCDLoss(LateTerm):
    """Spatial Correlation Distillation over pooled regions; see :func:`scd_loss`.

    All regions go through one batched product while ``R * L * L`` stays under
    ``max_correlations``; above it they are streamed in pieces whose gradient is formed at once: a
    few regions at a time, and a block of rows of one region where a single (L, L) is too large.

    The default keeps the pattern of each row and leaves its level free, as the code of the first
    author's later UniRefiner does. The plain softmax of cosines, which pins the level too and was
    the default before the search, is ``normalize='none', detach_keys=False,
    student_temperature=0.1, teacher_temperature=0.1, loss_weight=1.0``.

    Args:
        student_temperature: Not stated in the paper; default from docs/search.md. For small
            differences the loss scales as ``loss_weight / temperature ** 2``: that ratio is the
            knob that matters.
        teacher_temperature: As above.
        normalize: ``'minmax'`` (rows scaled to [0, 1]) or ``'none'``. Not stated in the paper;
            default from docs/search.md.
        detach_keys: No gradient through the keys. Not stated in the paper; default from
            docs/search.md.
        divergence: ``'ce'``, ``'kl'`` or ``'mse'``. Not stated in the paper; ``'ce'`` inferred.
        roi_size: Side of the RoIAlign grid, ``L = roi_size ** 2``. Not stated in the paper; default
            8 from this project's pilots.
        loss_weight: Lambda. Not stated in the paper; default from docs/search.md.
        start: Share of the training's iterations after which the term sets in; 0 from the first on.
            Not stated in the paper; 0.1 in UniRefiner's published code. Who trains with this loss
            asks :attr:`started`, which depends on the iteration alone, so a resumed run agrees.
        max_correlations: Elements of the largest correlation tensor kept at once (2 ** 25: 128
            MiB); about ten of them live together.

    Raises:
        ValueError: On an unknown ``normalize`` or ``divergence``, a temperature <= 0, or a
            ``start`` outside [0, 1).
    """

    def __init__(
        self,
        student_temperature: float = 0.2,
        teacher_temperature: float = 0.2,
        normalize: str = 'minmax',
        detach_keys: bool = True,
        divergence: str = 'ce',
        roi_size: int = 8,
        loss_weight: float = 1.0,
        start: float = 0.0,
        max_correlations: int = 2**25,
    ) -> None:
        super().__init__(loss_weight, start)
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
            if num_regions * num_bins**2 <= self.max_correlations:
                total = scd_loss(student, teacher, **self.options).sum()
            else:
                step = max(1, self.max_correlations // num_bins**2)
                pieces = [
                    _Piece(slice(start, start + step), nn.Identity())
                    for start in range(0, num_regions, step)
                ]
                total = self._streamed_sum(student, teacher, pieces)
        return self.loss_weight * total / (num_regions if avg_factor is None else avg_factor)

    def of_maps(
        self,
        student: Tensor,
        teacher: Tensor,
        boxes: Tensor,
        avg_factor: float | Tensor | None = None,
    ) -> Tensor:
        """Pool the regions of two maps and compute the weighted loss.

        When regions are streamed, pooling is part of the stream, so that the tokens of one piece
        live at a time as well.

        Args:
            student: Student maps (B, D, h, w), any norm.
            teacher: Teacher maps (B, D', h', w') of the same images, any norm; no gradient.
            boxes: (R, 5) rows [image index, x1, y1, x2, y2] in [0, 1] of the canvas, images in
                order.
            avg_factor: As in :meth:`forward`.

        Returns:
            Scalar, float32.
        """
        student, teacher = (F.normalize(m.float(), dim=1) for m in (student, teacher.detach()))
        num_bins = self.roi_size**2
        if len(boxes) * num_bins**2 <= self.max_correlations:
            pooled = (pool_tokens(maps, boxes, self.roi_size) for maps in (student, teacher))
            return self(*pooled, avg_factor=avg_factor)
        step = max(1, self.max_correlations // num_bins**2)
        pieces = []
        for image, of_image in enumerate(_split_by_image(boxes, len(student))):
            for part in of_image.split(step):
                pool = partial(pool_tokens, boxes=part, output_size=self.roi_size)
                pieces.append(_Piece(slice(image, image + 1), pool))
        with torch.autocast(student.device.type, enabled=False):
            total = self._streamed_sum(student, teacher, pieces)
        return self.loss_weight * total / (len(boxes) if avg_factor is None else avg_factor)

    def _streamed_sum(self, student: Tensor, teacher: Tensor, pieces: list[_Piece]) -> Tensor:
        return _StreamedSum.apply(student, teacher, pieces, self.max_correlations, self.options)


def _split_by_image(boxes: Tensor, num_images: int) -> list[Tensor]:
    """Boxes (R, 5) of each image alone, every one with image index 0."""
    counts = torch.bincount(boxes[:, 0].long(), minlength=num_images).tolist()
    return [F.pad(part[:, 1:], (1, 0)) for part in boxes.split(counts)]
