"""What ``mmcv._ext`` holds, made of torchvision: same names, arguments and in-place outputs.

mmcv's Python code asks for each function by name when it is imported. Those that torchvision has
no kernel for are there too, and raise when they are called.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NoReturn

import torchvision

from refineclip.installation import compile_mmcv, installed_family

from .deform_conv import (
    deform_conv_backward_input,
    deform_conv_backward_parameters,
    deform_conv_forward,
    modulated_deform_conv_backward,
    modulated_deform_conv_forward,
)
from .focal_loss import sigmoid_focal_loss_backward, sigmoid_focal_loss_forward
from .nms import nms, softnms
from .roi_align import roi_align_backward, roi_align_forward

__all__ = [
    'deform_conv_backward_input',
    'deform_conv_backward_parameters',
    'deform_conv_forward',
    'get_compiler_version',
    'get_compiling_cuda_version',
    'modulated_deform_conv_backward',
    'modulated_deform_conv_forward',
    'nms',
    'roi_align_backward',
    'roi_align_forward',
    'sigmoid_focal_loss_backward',
    'sigmoid_focal_loss_forward',
    'softnms',
]


def get_compiler_version() -> str:
    """What mmcv's environment report says in the place of a compiler."""
    return f'none: torchvision {torchvision.__version__} by refineclip.mmcv_ops'


def get_compiling_cuda_version() -> str:
    """What mmcv's environment report says in the place of a CUDA version."""
    return get_compiler_version()


def __getattr__(name: str) -> Callable[..., NoReturn]:
    """Take the place of an operator without a counterpart."""
    if name.startswith('__'):
        raise AttributeError(f'module {__name__!r} has no attribute {name!r}')

    def refuse(*_: Any, **__: Any) -> NoReturn:
        raise NotImplementedError(
            f'expected mmcv with compiled operators, got {name} of refineclip.mmcv_ops, which '
            f'torchvision has no counterpart of; compile mmcv: {compile_mmcv(installed_family())}'
        )

    return refuse
