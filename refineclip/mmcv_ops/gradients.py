"""Backward passes from forward ones, and the type that both compute in."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def computable(tensor: Tensor) -> Tensor:
    """The tensor in a type that every kernel of torchvision has: half types become float32."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor


def gradients(
    forward: Callable[..., Tensor], inputs: Sequence[Tensor], grad_output: Tensor
) -> tuple[Tensor, ...]:
    """Run a function and pull a gradient back through it.

    mmcv calls its backward operators with gradients switched off and hands over what the forward
    one was given, not its graph.

    Args:
        forward: Function of ``inputs``.
        inputs: Tensors to differentiate by, of any float type.
        grad_output: Gradient of the function's value, in its shape.

    Returns:
        A gradient per input, in its shape.
    """
    with torch.enable_grad():
        leaves = [computable(one.detach()).requires_grad_() for one in inputs]
        output = forward(*leaves)
        return torch.autograd.grad(output, leaves, grad_output.to(output.dtype))
