"""Read the tensors of a TorchScript archive without running, or compiling, the code in it."""

from __future__ import annotations

import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


def read_torchscript(path: Path) -> dict[str, Any]:
    """Return tensors and whole numbers of a TorchScript archive by their dotted names.

    OpenAI's own CLIP files are such archives. ``torch.jit.load`` would compile their code.

    Args:
        path: The file.

    Returns:
        Tensors (parameters and buffers), and the ``int`` attributes that OpenAI's files have.

    Raises:
        ValueError: If the archive is broken, or its tensors are stored in another way.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            name = next(name for name in archive.namelist() if name.endswith('data.pkl'))
            folder = name.removesuffix('data.pkl')
            with archive.open(name) as file:
                root = _Reader(file, archive, folder).load()
        return dict(_walk(root, '', set()))
    # Broken or hostile bytes lead a pickle into errors of any type; none of it was run.
    except Exception as error:
        raise ValueError(
            f'expected weights, got a TorchScript archive in {path} whose tensors cannot be read '
            'without running its code; if you trust the file, convert it once: '
            f"torch.save(torch.jit.load({str(path)!r}, 'cpu').state_dict(), 'weights.pt')"
        ) from error


# Names of torch's typed storages, which are deprecated.
_STORAGES = {
    'FloatStorage': torch.float32,
    'HalfStorage': torch.float16,
    'BFloat16Storage': torch.bfloat16,
    'DoubleStorage': torch.float64,
    'LongStorage': torch.int64,
    'IntStorage': torch.int32,
    'ShortStorage': torch.int16,
    'CharStorage': torch.int8,
    'ByteStorage': torch.uint8,
    'BoolStorage': torch.bool,
}


class _ScriptObject:
    """Stands for any class of the archive: keeps attributes, does nothing."""

    attributes: Any = None

    def __setstate__(self, state: Any) -> None:
        self.attributes = state


class _Reader(pickle.Unpickler):
    """An unpickler that knows tensors, lists and :class:`_ScriptObject`, and calls nothing else."""

    def __init__(self, file: Any, archive: zipfile.ZipFile, folder: str) -> None:
        super().__init__(file)
        self.archive, self.folder = archive, folder

    def find_class(self, module: str, name: str) -> Any:
        if module.startswith('__torch__'):
            return type(name, (_ScriptObject,), {})
        if module == 'torch.jit._pickle':  # build_intlist, restore_type_tag, ...
            return _first
        known = {
            'torch._utils._rebuild_tensor_v2': _rebuild_tensor,
            'collections.OrderedDict': OrderedDict,
        }
        if module == 'torch' and name in _STORAGES:
            return _STORAGES[name]
        if f'{module}.{name}' in known:
            return known[f'{module}.{name}']
        raise pickle.UnpicklingError(f'{module}.{name} is not allowed')

    def persistent_load(self, pid: Any) -> Tensor:
        """Return the flat storage that a record names."""
        _, dtype, key, _, _ = pid
        data = bytearray(self.archive.read(f'{self.folder}data/{key}'))
        return torch.frombuffer(data, dtype=dtype) if data else torch.empty(0, dtype=dtype)


def _first(value: Any, *_: Any) -> Any:
    return value


def _rebuild_tensor(
    storage: Tensor, offset: int, size: Sequence[int], stride: Sequence[int], *_: Any
) -> Tensor:
    return storage.as_strided(size, stride, offset)  # refuses what lies outside of the storage


def _walk(owner: Any, prefix: str, seen: set[int]) -> Iterator[tuple[str, Any]]:
    if id(owner) in seen or not isinstance(owner.attributes, dict):
        return
    seen.add(id(owner))
    for name, value in owner.attributes.items():
        if isinstance(value, _ScriptObject):
            yield from _walk(value, f'{prefix}{name}.', seen)
        elif isinstance(value, Tensor) or type(value) is int:
            yield f'{prefix}{name}', value
