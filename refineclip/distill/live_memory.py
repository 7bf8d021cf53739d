"""Peak memory of tensors that exist in name only: a whole training step on the meta device."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveMemory(TorchDispatchMode):
    """Count the bytes of storages that are alive, as a caching allocator would see them.

    Works on any device; on ``meta`` no byte is touched. Scratch space inside kernels, rounding and
    fragmentation of an allocator are not seen.

    Args:
        known: Tensors that exist already (parameters, buffers) and are not counted.

    Attributes:
        live: Bytes alive now.
        peak: Most bytes alive at once so far.
    """

    def __init__(self, known: Iterable[Tensor] = ()) -> None:
        super().__init__()
        self.live = 0
        self.peak = 0
        self._known = {tensor.untyped_storage()._cdata for tensor in known}
        # Address of a storage: its bytes and the reference that tells of its end.
        self._storages: dict[int, tuple[int, Any]] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict | None = None
    ) -> Any:
        """Run the operator and count the storages that it made."""
        result = func(*args, **(kwargs or {}))
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor):
                self._count(leaf)
        return result

    def _count(self, tensor: Tensor) -> None:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key in self._storages or key in self._known:
            return
        self.live += storage.nbytes()
        self.peak = max(self.peak, self.live)
        reference = weakref.ref(storage, partial(self._release, key))
        self._storages[key] = (storage.nbytes(), reference)

    def _release(self, key: int, _: Any) -> None:
        self.live -= self._storages.pop(key)[0]


@contextmanager
def kernels_of_training(dtype: torch.dtype) -> Iterator[None]:
    """Let meta tensors take the kernels and types that they would take where one trains.

    Two things do not reach the meta device by themselves: attention by a fused kernel, which keeps
    no (N, N) matrix, and autocast. So the four functions of ``torch.nn.functional`` that decide
    about them are exchanged here: convolutions, linear layers and attention compute in ``dtype``,
    layer norms in float32, as PyTorch's autocast does on a GPU.

    Args:
        dtype: ``torch.float32`` (no autocast), ``torch.bfloat16`` or ``torch.float16``.
    """
    names = ('linear', 'conv2d', 'layer_norm', 'scaled_dot_product_attention')
    original: dict[str, Callable[..., Tensor]] = {name: getattr(F, name) for name in names}

    def low(value: Any) -> Any:
        return value.to(dtype) if isinstance(value, Tensor) else value

    def high(value: Any) -> Any:
        return value.float() if isinstance(value, Tensor) else value

    def linear(*args: Any) -> Tensor:
        return original['linear'](*map(low, args))

    def conv2d(*args: Any, **kwargs: Any) -> Tensor:
        return original['conv2d'](*map(low, args), **kwargs)

    def layer_norm(*args: Any, **kwargs: Any) -> Tensor:
        return original['layer_norm'](*map(high, args), **{k: high(v) for k, v in kwargs.items()})

    def attention(q: Tensor, k: Tensor, v: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        scale = kwargs.get('scale')
        operator = torch.ops.aten._scaled_dot_product_flash_attention
        return operator(low(q), low(k), low(v), scale=scale)[0]

    try:
        for name, function in zip(names, (linear, conv2d, layer_norm, attention), strict=True):
            setattr(F, name, function)
        yield
    finally:
        for name, function in original.items():
            setattr(F, name, function)
