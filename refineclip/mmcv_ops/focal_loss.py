"""``sigmoid_focal_loss_forward`` and ``sigmoid_focal_loss_backward`` of mmcv's extension."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional
from torchvision.ops import sigmoid_focal_loss

from .gradients import computable, gradients


def sigmoid_focal_loss_forward(
    input: Tensor, target: Tensor, weight: Tensor, output: Tensor, gamma: float, alpha: float
) -> None:
    """Focal loss of each class of each sample.

    Args:
        input: Logits (N, C).
        target: Classes (N,), int64 in [0, C]; C is the background.
        weight: One per class (C,), for samples that are all of a class; or empty.
        output: Filled with (N, C).
        gamma: Exponent of what a prediction is off by.
        alpha: Share of the class, and 1 - alpha that of the others.
    """
    output.copy_(loss_of(computable(input), target, weight, gamma, alpha))


def sigmoid_focal_loss_backward(
    input: Tensor, target: Tensor, weight: Tensor, grad_input: Tensor, gamma: float, alpha: float
) -> None:
    """Fill ``grad_input`` (N, C) with the derivative of each loss by its own logit."""

    def forward(logits: Tensor) -> Tensor:
        return loss_of(logits, target, weight, gamma, alpha).sum()

    grad_input.copy_(gradients(forward, [input], input.new_ones(()))[0])


def loss_of(logits: Tensor, target: Tensor, weight: Tensor, gamma: float, alpha: float) -> Tensor:
    """The losses (N, C) in the type of the logits."""
    classes = logits.size(1)
    one_hot = functional.one_hot(target, classes + 1)[:, :classes].to(logits)
    losses = sigmoid_focal_loss(logits, one_hot, alpha, gamma)
    return losses * weight[target, None] if weight.numel() else losses
