"""Match the token-token cosines of whole images with those of another encoder."""

from __future__ import annotations

import torch
from mmengine.registry import MODELS
from torch import Tensor
from torch.nn import functional as F

from .late_term import LateTerm

DISTANCES = ('row-norm', 'mse')


def correlation_loss(
    student: Tensor, teacher: Tensor, valid: Tensor | None = None, distance: str = 'row-norm'
) -> Tensor:
    """Distance between the token-token cosine matrices of student and teacher.

    Args:
        student: (B, N, D) tokens of whole images, any norm.
        teacher: (B, N, D') of the same tokens, any norm; receives no gradient.
        valid: (B, N) bool, tokens that show the picture and not its padding; all by default.
        distance: ``'row-norm'``: Euclidean norm of the difference of each row, mean over rows;
            ``'mse'``: mean of its squared elements.

    Returns:
        (B,) loss per image, float32.

    Raises:
        ValueError: If the tokens are not of the same images and places.
    """
    if student.shape[:2] != teacher.shape[:2]:
        raise ValueError(
            'expected student and teacher tokens of the same images and places, got '
            f'{tuple(student.shape)} and {tuple(teacher.shape)}; give both maps one grid'
        )
    student, teacher = (F.normalize(x.float(), dim=-1) for x in (student, teacher.detach()))
    difference = student @ student.transpose(1, 2) - teacher @ teacher.transpose(1, 2)
    if valid is None:
        valid = torch.ones(student.shape[:2], dtype=torch.bool, device=student.device)
    kept = valid.to(difference.dtype)
    count = kept.sum(dim=1).clamp(min=1)
    squares = (difference.square() * kept[:, None]).sum(dim=-1)
    if distance == 'mse':
        return (squares * kept).sum(dim=1) / count.square()
    # The square root has no slope at 0, where a token of the student agrees with the teacher's.
    return ((squares + 1e-12).sqrt() * kept).sum(dim=1) / count


def shows_picture(pictures: Tensor | None, grid: tuple[int, int]) -> Tensor | None:
    """Tell tokens of the picture from tokens of its padding.

    Args:
        pictures: (B, 4) xyxy of each picture in [0, 1] of the canvas; None if nobody knows.
        grid: (h, w).

    Returns:
        (B, h * w) bool, whether the middle of a token lies in the picture; None for None.
    """
    if pictures is None:
        return None
    ys, xs = (
        (torch.arange(count, device=pictures.device) + 0.5) / count for count in grid
    )  # middles of the tokens, in [0, 1]
    x1, y1, x2, y2 = (side[:, None] for side in pictures.unbind(dim=1))
    rows, columns = (ys >= y1) & (ys <= y2), (xs >= x1) & (xs <= x2)
    return (rows[:, :, None] & columns[:, None]).flatten(1)


@MODELS.register_module()
class CorrelationLoss(LateTerm):
    """Correlation of the patches of an image, held to another encoder's; see the function.

    DeCLIP (arXiv 2505.04410) takes the norm of rows against a vision model's, DenseRC the squared
    error. Unlike :class:`SCDLoss` it looks at whole images, and pins the level of each cosine.

    Args:
        distance: ``'row-norm'`` or ``'mse'``.
        loss_weight: Factor on the mean over images.
        start: Share of the training after which the term sets in.

    Raises:
        ValueError: On an unknown ``distance``, or a ``start`` outside [0, 1).
    """

    def __init__(
        self, distance: str = 'row-norm', loss_weight: float = 1.0, start: float = 0.0
    ) -> None:
        super().__init__(loss_weight, start)
        if distance not in DISTANCES:
            raise ValueError(f'distance: expected one of {DISTANCES}, got {distance!r}')
        self.distance = distance

    def forward(
        self,
        student: Tensor,
        teacher: Tensor,
        valid: Tensor | None = None,
        avg_factor: float | Tensor | None = None,
    ) -> Tensor:
        """Compute the weighted loss.

        Args:
            student: (B, N, D) tokens.
            teacher: (B, N, D') tokens.
            valid: (B, N) tokens that count; all by default.
            avg_factor: Divisor of the sum over images; default B.

        Returns:
            Scalar, float32.
        """
        with torch.autocast(student.device.type, enabled=False):
            total = correlation_loss(student, teacher, valid, self.distance).sum()
        return self.loss_weight * total / (len(student) if avg_factor is None else avg_factor)

    def of_maps(
        self,
        student: Tensor,
        teacher: Tensor,
        pictures: Tensor | None = None,
        avg_factor: float | Tensor | None = None,
    ) -> Tensor:
        """Compute the weighted loss of two maps of the same images.

        Args:
            student: (B, D, h, w) map, any norm.
            teacher: (B, D', h, w) map on the same grid, any norm; receives no gradient.
            pictures: (B, 4) where each picture lies on the canvas, see :func:`shows_picture`.
            avg_factor: Divisor of the sum over images; default B.

        Returns:
            Scalar, float32.

        Raises:
            ValueError: If the two have different grids.
        """
        if student.shape[2:] != teacher.shape[2:]:
            raise ValueError(
                f'CorrelationLoss: expected two maps on one grid, got {tuple(student.shape[2:])} '
                f'and {tuple(teacher.shape[2:])}; resize the images of one (teacher_view)'
            )
        tokens = (one.flatten(2).transpose(1, 2) for one in (student, teacher))
        grid = student.shape[2], student.shape[3]
        return self(*tokens, shows_picture(pictures, grid), avg_factor)
