"""Read weight files of every common form into a flat state dict, running no code from them."""

from __future__ import annotations

import re
import zipfile
from argparse import Namespace
from collections.abc import Callable, Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from .key_layouts import OPENAI_SCALARS, State

_NESTS = ('state_dict', 'model', 'module', 'model_ema')
_WRAPPERS = ('module.', '_orig_mod.')


def read_checkpoint(path: str | Path) -> State:
    """Read a flat state dict from a file.

    Nested ``state_dict`` or ``model`` entries are entered, and the prefixes of DDP (``module.``)
    and ``torch.compile`` are removed.

    Args:
        path: A ``.safetensors`` file, or a ``.pt``, ``.pth`` or ``.bin`` file of ``torch.save``.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it cannot be read, holds no tensors, or holds objects that only pickle could
            load.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f'expected a weight file at {path}, found none')
    if path.suffix != '.safetensors':
        return _unwrap(_torch_load(path), path)
    try:
        return _unwrap(load_file(path), path)
    except SafetensorError as error:
        raise ValueError(f'expected a safetensors file, got {path} ({error})') from error


def _torch_load(path: Path) -> Any:
    """Call ``torch.load`` with ``weights_only=True``, open to plain records of training tools."""
    try:
        with torch.serialization.safe_globals(_harmless_types()):
            return torch.load(path, map_location='cpu', weights_only=True)
    except (UnpicklingError, RuntimeError, EOFError) as error:
        raise ValueError(_mend_message(path, error)) from error


def _harmless_types() -> list[Any]:
    """Return what checkpoints of mmengine and of argparse-driven trainers hold beside tensors.

    Their classes only store values. mmengine's history buffers look up their own methods with
    ``getattr``, which is replaced by a function that can do nothing else.
    """
    core = np._core if hasattr(np, '_core') else np.core
    functions: list[tuple[Callable[..., Any], str]] = []
    for name, function in (
        ('scalar', core.multiarray.scalar),
        ('_reconstruct', core.multiarray._reconstruct),
    ):
        functions += [(function, f'numpy.{c}.multiarray.{name}') for c in ('core', '_core')]
    dtypes = [type(np.dtype(kind)) for kind in ('f8', 'f4', 'i8', 'i4', 'u4', 'u1', '?')]
    lookup = (_history_method, 'builtins.getattr')
    return [HistoryBuffer, Namespace, slice, np.ndarray, np.dtype, *dtypes, *functions, lookup]


def _history_method(owner: Any, name: str) -> Any:
    """Look up a public method of mmengine's ``HistoryBuffer``, and nothing else."""
    if owner is not HistoryBuffer or name.startswith('_'):
        raise UnpicklingError(f'GLOBAL getattr({owner!r}, {name!r}) is not allowed')
    return getattr(owner, name)


def _mend_message(path: Path, error: Exception) -> str:
    """Say what is wrong with a file that did not load, and what to do."""
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
        if any(name.endswith('constants.pkl') for name in names):
            return (
                f'expected a state dict, got a TorchScript archive in {path}; convert it once: '
                f"torch.save(torch.jit.load({str(path)!r}, 'cpu').state_dict(), 'weights.pt')"
            )
    found = re.search(r'GLOBAL ([\w.]+)', str(error))
    if isinstance(error, UnpicklingError) and found:
        return (
            f'expected tensors only, got pickled {found.group(1)} in {path}, which could run '
            'code; if you trust the file, convert it once: '
            f"state = torch.load({str(path)!r}, 'cpu', weights_only=False); "
            "torch.save(state['state_dict'], 'weights.pt')"
        )
    return f'expected a weight file that torch can read, got {path} ({error})'


def _unwrap(content: Any, path: Path) -> State:
    """Return the tensors of a loaded file, out of nested entries and without wrapper prefixes."""
    while isinstance(content, Mapping):
        nest = next((key for key in _NESTS if isinstance(content.get(key), Mapping)), None)
        if nest is None:
            break
        content = content[nest]
    if not isinstance(content, Mapping):
        raise ValueError(f'expected a state dict in {path}, got {type(content).__name__}')
    state = {key: value for key, value in content.items() if isinstance(value, Tensor)}
    if not state:
        entries = sorted(map(str, content))[:10]
        raise ValueError(f'expected tensors in {path}, got the entries {entries}')
    # Files written by hand from OpenAI's keep these as numbers.
    for key in OPENAI_SCALARS:
        if isinstance(content.get(key), int):
            state[key] = torch.tensor(content[key])
    wrapper: str | None = ''
    while wrapper is not None:
        state = {key.removeprefix(wrapper): value for key, value in state.items()}
        wrapper = next((w for w in _WRAPPERS if all(key.startswith(w) for key in state)), None)
    return state
