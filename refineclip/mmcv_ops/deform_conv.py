"""Deformable convolutions of mmcv's extension, version 1 and 2 (modulated).

Both libraries keep offsets as y, x per tap and split channels and groups alike. mmcv hands over
buffers and a step for its own kernels, which have no use here.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Any

from torch import Tensor
from torchvision.ops import deform_conv2d

from .gradients import computable, gradients


def deform_conv_forward(
    input: Tensor,
    weight: Tensor,
    offset: Tensor,
    output: Tensor,
    columns: Tensor,
    ones: Tensor,
    **settings: int,
) -> None:
    """Convolve at displaced places.

    Args:
        input: Maps (B, C, H, W).
        weight: Kernel (O, C / group, kH, kW).
        offset: Displacements (B, 2 * deformable_group * kH * kW, h, w), in pixels.
        output: Filled with (B, O, h, w).
        columns: Not used.
        ones: Not used.
        settings: ``dH``, ``dW``, ``padH``, ``padW``, ``dilationH`` and ``dilationW``; groups
            follow from the shapes.
    """
    maps, places, kernel = computable(input), computable(offset), computable(weight)
    output.copy_(deform_conv2d(maps, places, kernel, **first_version(settings)))


def deform_conv_backward_input(
    input: Tensor,
    offset: Tensor,
    gradOutput: Tensor,
    gradInput: Tensor,
    gradOffset: Tensor,
    weight: Tensor,
    columns: Tensor,
    **settings: int,
) -> None:
    """Fill ``gradInput`` and ``gradOffset``; see :func:`deform_conv_forward`."""
    forward = partial(deform_conv2d, weight=computable(weight), **first_version(settings))
    grad_input, grad_offset = gradients(forward, [input, offset], gradOutput)
    gradInput.copy_(grad_input)
    gradOffset.copy_(grad_offset)


def deform_conv_backward_parameters(
    input: Tensor,
    offset: Tensor,
    gradOutput: Tensor,
    gradWeight: Tensor,
    columns: Tensor,
    ones: Tensor,
    scale: float,
    **settings: int,
) -> None:
    """Add ``scale`` times the weight's gradient to ``gradWeight``."""

    def forward(kernel: Tensor) -> Tensor:
        return deform_conv2d(
            computable(input), computable(offset), kernel, **first_version(settings)
        )

    gradWeight.add_(gradients(forward, [gradWeight], gradOutput)[0], alpha=scale)


def modulated_deform_conv_forward(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    output: Tensor,
    columns: Tensor,
    with_bias: bool,
    **settings: int,
) -> None:
    """Convolve at displaced places, each weighed by its own factor.

    Args:
        input: Maps (B, C, H, W).
        weight: Kernel (O, C / group, kernel_h, kernel_w).
        bias: (O,), or empty.
        ones: Not used.
        offset: Displacements (B, 2 * deformable_group * kernel_h * kernel_w, h, w), in pixels.
        mask: Factors (B, deformable_group * kernel_h * kernel_w, h, w).
        output: Filled with (B, O, h, w).
        columns: Not used.
        with_bias: Whether ``bias`` is there.
        settings: ``stride_h``, ``stride_w``, ``pad_h``, ``pad_w``, ``dilation_h`` and
            ``dilation_w``; groups follow from the shapes.
    """
    tensors = [input, offset, weight, mask, *[bias] * with_bias]
    output.copy_(modulated(*map(computable, tensors), **second_version(settings)))


def modulated_deform_conv_backward(
    input: Tensor,
    weight: Tensor,
    bias: Tensor,
    ones: Tensor,
    offset: Tensor,
    mask: Tensor,
    columns: Tensor,
    grad_input: Tensor,
    grad_weight: Tensor,
    grad_bias: Tensor,
    grad_offset: Tensor,
    grad_mask: Tensor,
    grad_output: Tensor,
    with_bias: bool,
    **settings: int,
) -> None:
    """Fill the gradients; see :func:`modulated_deform_conv_forward`."""
    forward = partial(modulated, **second_version(settings))
    inputs = [input, offset, weight, mask, *[bias] * with_bias]
    slots = [grad_input, grad_offset, grad_weight, grad_mask, *[grad_bias] * with_bias]
    for slot, grad in zip(slots, gradients(forward, inputs, grad_output), strict=True):
        slot.copy_(grad)


def modulated(
    input: Tensor,
    offset: Tensor,
    weight: Tensor,
    mask: Tensor,
    bias: Tensor | None = None,
    **settings: tuple[int, int],
) -> Tensor:
    """Torchvision's convolution with its tensors in one row."""
    return deform_conv2d(input, offset, weight, bias, mask=mask, **settings)


def first_version(settings: Mapping[str, int]) -> dict[str, Any]:
    """Torchvision's names for mmcv's settings of version 1."""
    return {
        'stride': (settings['dH'], settings['dW']),
        'padding': (settings['padH'], settings['padW']),
        'dilation': (settings['dilationH'], settings['dilationW']),
    }


def second_version(settings: Mapping[str, int]) -> dict[str, Any]:
    """Torchvision's names for mmcv's settings of version 2."""
    return {
        'stride': (settings['stride_h'], settings['stride_w']),
        'padding': (settings['pad_h'], settings['pad_w']),
        'dilation': (settings['dilation_h'], settings['dilation_w']),
    }
