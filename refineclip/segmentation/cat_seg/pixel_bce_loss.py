"""One binary decision per pixel and class, without a one-hot target in memory."""

from __future__ import annotations

import torch.nn.functional as F
from mmengine.registry import MODELS
from torch import Tensor, nn


def pixel_bce_loss(
    logits: Tensor, labels: Tensor, ignore_index: int = 255, ignored_as_negative: bool = False
) -> Tensor:
    """Binary cross-entropy of logits against one-hot labels, mean over pixels and classes.

    ``BCE(x, t) = softplus(x) - x * t``, and t is 1 at one class of a pixel only, so the second term
    is a gather.

    Args:
        logits: ``(B, C, H, W)``.
        labels: Class indices ``(B, H, W)``, integer, in [0, C - 1] or ``ignore_index``.
        ignore_index: Label of pixels without a class.
        ignored_as_negative: Ask of such pixels that no class fires, as the released CAT-Seg code
            does; otherwise they give no gradient. They count in the mean either way.

    Returns:
        Scalar.

    Raises:
        ValueError: If shapes differ, or a label names no class.
    """
    if logits.shape[:1] + logits.shape[2:] != labels.shape:
        raise ValueError(
            f'expected labels (B, H, W) for logits (B, C, H, W), got {tuple(labels.shape)} and '
            f'{tuple(logits.shape)}; image and mask differ in size'
        )
    labels = labels.long()
    valid = labels != ignore_index
    target = labels.where(valid, labels.new_zeros(()))
    if target.min() < 0 or target.max() >= logits.shape[1]:
        wrong = sorted(set(target[(target < 0) | (target >= logits.shape[1])].tolist()))
        raise ValueError(
            f'expected labels in [0, {logits.shape[1] - 1}] or {ignore_index} (ignored), got '
            f'{wrong[:5]}; the vocabulary has fewer classes than the masks'
        )
    negative = F.softplus(logits)
    if not ignored_as_negative:
        negative = negative * valid[:, None]
    positive = logits.gather(1, target[:, None])[:, 0] * valid
    return (negative.sum() - positive.sum()) / logits.numel()


@MODELS.register_module()
class PixelBCELoss(nn.Module):
    """:func:`pixel_bce_loss` for configs.

    With the defaults equal to mmseg's ``CrossEntropyLoss(use_sigmoid=True)``, in less memory.

    Args:
        loss_weight: Factor on the loss.
        ignored_as_negative: See :func:`pixel_bce_loss`.
        loss_name: Name in the log; mmengine optimises what starts with ``loss``.
    """

    def __init__(
        self,
        loss_weight: float = 1.0,
        ignored_as_negative: bool = False,
        loss_name: str = 'loss_bce',
    ) -> None:
        super().__init__()
        self.loss_weight = loss_weight
        self.ignored_as_negative = ignored_as_negative
        self.loss_name = loss_name

    def forward(self, logits: Tensor, labels: Tensor, ignore_index: int = 255) -> Tensor:
        """Return the weighted loss; see :func:`pixel_bce_loss`."""
        loss = pixel_bce_loss(logits.float(), labels, ignore_index, self.ignored_as_negative)
        return self.loss_weight * loss
