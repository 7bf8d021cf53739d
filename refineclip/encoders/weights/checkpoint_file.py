"""Read weight files of every common form, running no code from them."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

from .formats import Format, describe_pickle, sniff_format
from .harmless_types import harmless_types
from .renamed_state import LOGIT_PARAMETERS, OPENAI_SCALARS, State
from .torchscript_file import read_torchscript

_NESTS = ('state_dict', 'model', 'module', 'model_state_dict', 'model_ema')
_WRAPPERS = ('module.', '_orig_mod.')
_CHUNK = 2**20  # bytes


class Weights(State):
    """A flat state dict with the notes of the run that wrote it.

    Attributes:
        meta: What mmengine's checkpoints hold under this name; empty for files of other tools.
    """

    meta: Mapping[str, Any]


def read_checkpoint(path: str | Path) -> Weights:
    """Read a flat state dict from a file.

    Nested ``state_dict`` or ``model`` entries are entered, and the prefixes of DDP (``module.``)
    and ``torch.compile`` are removed.

    Args:
        path: A safetensors file, a file of ``torch.save``, a TorchScript archive or an ``.npz``;
            the content decides, not the name.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it cannot be read, holds no tensors, or holds objects that only pickle could
            load.
    """
    content = read_content(path)
    weights = Weights(_unwrap(content, Path(path)))
    meta = content.get('meta') if isinstance(content, Mapping) else None
    weights.meta = meta if isinstance(meta, Mapping) else {}
    return weights


def read_content(path: str | Path, map_location: Any = 'cpu') -> Any:
    """Read what a weight file holds, optimizer and records of the run included.

    Args:
        path: See :func:`read_checkpoint`.
        map_location: Where the tensors of a file of ``torch.save`` go.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is no weight file, is broken, or could run code.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f'expected a weight file at {path}, found none')
    kind = sniff_format(path)
    if kind is Format.SAFETENSORS:
        try:
            return load_file(path)
        except SafetensorError as error:
            raise ValueError(
                f'expected a whole safetensors file, got {path}, which is cut off or broken; '
                'get it again'
            ) from error
    if kind is Format.TORCHSCRIPT:
        return read_torchscript(path)
    if kind is Format.NPZ:
        return _read_npz(path)
    if zipfile.is_zipfile(path):
        _check_sums(path)
    return _torch_load(path, map_location)


def _torch_load(path: Path, map_location: Any) -> Any:
    """Call ``torch.load`` with ``weights_only=True``, open to plain records of training tools."""
    try:
        with torch.serialization.safe_globals(harmless_types()):
            return torch.load(path, map_location=map_location, weights_only=True)
    except UnpicklingError as error:
        # The second: a class that may be made, but not filled as the file wants to.
        found = re.search(r"GLOBAL ([\w.]+)|but got <class '([\w.]+)'>", str(error))
        if found is None:
            raise ValueError(_broken(path)) from error
        raise ValueError(describe_pickle(path, found[1] or found[2])) from error
    except MemoryError:
        raise
    # Broken bytes lead torch into errors of any type, with its own internals in their texts.
    except Exception as error:
        raise ValueError(_broken(path)) from error


def _check_sums(path: Path) -> None:
    """Compare each part of a file with the checksum that it was written with; torch does not.

    Raises:
        ValueError: If a part is another.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            # torch can be told to leave the sums out, and writes zeros.
            for part in (one for one in archive.infolist() if one.CRC):
                with archive.open(part) as file:
                    while file.read(_CHUNK):
                        pass
    # Broken headers lead zipfile into errors of several types.
    except Exception as error:
        raise ValueError(_broken(path)) from error


def read_array(path: str | Path) -> Tensor:
    """Read the numbers of a ``.npy`` file.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is none, is broken, or holds other things than numbers.
    """
    try:
        return torch.from_numpy(np.load(path, allow_pickle=False))
    except FileNotFoundError:
        raise
    # As below.
    except Exception as error:
        raise ValueError(
            f'expected an array of numbers in {path}, got a .npy that is broken or holds pickled '
            'objects; save it anew'
        ) from error


def _broken(path: Path) -> str:
    return (
        f'expected a weight file of torch, got {path} ({path.stat().st_size} bytes), which is cut '
        'off, broken or of another kind; get it again'
    )


def _read_npz(path: Path) -> dict[str, Any]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    # As above: numpy's own text says nothing of what to do.
    except Exception as error:
        raise ValueError(
            f'expected arrays of numbers in {path}, got an .npz that is broken or holds pickled '
            'objects; save it as safetensors'
        ) from error


def _unwrap(content: Any, path: Path) -> State:
    """Return the tensors of a loaded file, out of nested entries and without wrapper prefixes."""
    while isinstance(content, Mapping):
        nest = next((key for key in _NESTS if isinstance(content.get(key), Mapping)), None)
        if nest is None:
            break
        content = content[nest]
    if not isinstance(content, Mapping):
        raise ValueError(f'expected a state dict in {path}, got {type(content).__name__}')
    content = {str(key): value for key, value in content.items()}
    state = {key: value for key, value in content.items() if isinstance(value, Tensor)}
    if not state:  # saved by a tool that knows arrays only
        state = {key: torch.from_numpy(value) for key, value in content.items() if _numeric(value)}
    if not state:
        raise ValueError(f'expected tensors in {path}, got the entries {sorted(content)[:10]}')
    # Files written by hand from OpenAI's keep these as numbers.
    for key in (*OPENAI_SCALARS, *LOGIT_PARAMETERS):
        if isinstance(content.get(key), int | float | np.number):
            state[key] = torch.tensor(content[key])
    wrapper: str | None = ''
    while wrapper is not None:
        state = {key.removeprefix(wrapper): value for key, value in state.items()}
        wrapper = next((w for w in _WRAPPERS if all(key.startswith(w) for key in state)), None)
    return state


def _numeric(value: Any) -> bool:
    return isinstance(value, np.ndarray) and value.dtype.kind in 'fiub'
