"""A GPU in name only: tensors with real numbers on a device that refuses to meet the CPU.

Every operator is run by the CPU on what the tensors hold, after the rules that CUDA has for who may
meet whom. So a forgotten ``.to(device)`` raises here as it would there, and numbers are the CPU's.

Importing this module names a device for the whole process: only a process of its own may do it.
Needs torch 2.9 or newer, whose Python backends give a device without kernels its place.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

NAME = 'namedgpu'
DEVICE = f'{NAME}:0'
# Operators that may see both sides: those that copy, and indices on the CPU.
COPIES = ('aten::_to_copy', 'aten::copy_', 'aten::copy')
INDEXED = ('aten::index', 'aten::index_put', 'aten::index_put_', 'aten::_index_put_impl_')


class _Backend(backend_registration._DummyBackendModule):
    def get_amp_supported_dtype(self) -> list[torch.dtype]:
        return [torch.float16, torch.bfloat16]


backend_registration._setup_privateuseone_for_python_backend(NAME, backend_module=_Backend())


class NamedTensor(Tensor):
    """A tensor of the device; ``held`` is the CPU tensor with its numbers."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> NamedTensor:
        shape, strides, offset = held.shape, held.stride(), held.storage_offset()
        return Tensor._make_wrapper_subclass(
            cls, shape, strides, offset, dtype=held.dtype, device=DEVICE
        )

    def __init__(self, held: Tensor) -> None:
        self.held = held

    def tolist(self) -> Any:  # reads memory without an operator
        return self.held.tolist()

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return run(func, func._schema.name, args, kwargs or {})


class NamedGPU(TorchDispatchMode):
    """Within it, ``device=DEVICE`` and ``.to(DEVICE)`` give tensors of the device."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        return run(func, func._schema.name, args, kwargs or {})


@contextlib.contextmanager
def named_gpu() -> Iterator[None]:
    """Put the device into this process for a while."""

    def inference_mode(mode: bool = True) -> Any:  # wrapped tensors need version counters
        return torch.no_grad() if mode else contextlib.nullcontext()

    before = torch._C._only_lift_cpu_tensors()
    torch._C._set_only_lift_cpu_tensors(True)  # else torch.tensor(..., device=) passes us by
    try:
        with NamedGPU(), mock.patch('torch.inference_mode', inference_mode):
            yield
    finally:
        torch._C._set_only_lift_cpu_tensors(before)


class NamedExtension:
    """A compiled extension that PyTorch's dispatcher does not see, under the device's rules.

    Args:
        extension: The module, as ``mmcv.ops.nms.ext_module``.
    """

    def __init__(self, extension: Any) -> None:
        self.extension = extension

    def __getattr__(self, name: str) -> Any:
        function = getattr(self.extension, name)
        return lambda *args, **kwargs: run(function, name, args, kwargs)


def run(func: Any, name: str, args: Any, kwargs: dict[str, Any]) -> Any:
    """Run an operator on the numbers, and give its result the device that CUDA would give it."""
    tensors = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
    owned = {id(t.held): t for t in tensors if isinstance(t, NamedTensor)}
    if not owned and kwargs.get('device') is None:
        return func(*args, **kwargs)
    refuse_mixture(name, args, tensors)
    named = bool(owned)
    if name == 'aten::copy_':
        named = isinstance(args[0], NamedTensor)
    if kwargs.get('device') is not None:
        named = torch.device(kwargs['device']).type == NAME
        kwargs = {**kwargs, 'device': torch.device('cpu')}
        if 'pin_memory' in kwargs:
            kwargs['pin_memory'] = False
    result = func(*numbers(args), **numbers(kwargs))
    if not named:
        return result
    # What an operator changed in place is the tensor that came in.
    return tree_map_only(
        Tensor, lambda t: owned[id(t)] if id(t) in owned else NamedTensor(t), result
    )


def numbers(tree: Any) -> Any:
    """The same structure with the CPU tensors that the device's tensors hold."""
    return tree_map_only(NamedTensor, lambda t: t.held, tree)


def refuse_mixture(name: str, args: Any, tensors: list[Tensor]) -> None:
    """Raise where CUDA would: tensors of both sides in one operator.

    Raises:
        RuntimeError: With the operator and the shapes on either side.
    """
    indices = [id(index) for index in args[1]] if name in INDEXED else []
    here = [t for t in tensors if isinstance(t, NamedTensor)]
    there = [
        t
        for t in tensors
        if not isinstance(t, NamedTensor) and t.ndim and id(t) not in indices  # numbers may pass
    ]
    if here and there and name not in COPIES:
        raise RuntimeError(
            f'{name}: expected tensors of one device, got {[tuple(t.shape) for t in here]} on '
            f'{DEVICE} and {[tuple(t.shape) for t in there]} on the CPU'
        )
