"""The classes that a checkpoint may hold besides tensors: those that only store values."""

from __future__ import annotations

import datetime
import pathlib
from argparse import Namespace
from collections.abc import Callable, Iterable
from decimal import Decimal
from pickle import UnpicklingError
from typing import Any

import numpy as np
from mmengine.logging import HistoryBuffer

# Kinds of numbers, texts, dates, and records of these.
_DTYPES = ('?', *'bBhHiIlLqQefdgFDG', 'U', 'S', 'V', 'M8', 'm8', 'O')
_PATHS = ('Path', 'PosixPath', 'WindowsPath', 'PurePosixPath', 'PureWindowsPath')
_PLAIN = (
    *(datetime.date, datetime.datetime, datetime.time, datetime.timedelta, datetime.timezone),
    *(Namespace, Decimal, slice, range, frozenset, bytes),
    # What a defaultdict begins its entries with.
    *(list, dict, set, int, float, str),
)


def harmless_types() -> list[Any]:
    """Return what checkpoints of mmengine and of argparse-driven trainers hold beside tensors.

    For :func:`torch.serialization.safe_globals`. mmengine's history buffers look up their own
    methods with ``getattr``, which is replaced by a function that can do nothing else; paths become
    pure ones, which open nothing.
    """
    # numpy 1.26 has an empty _core.
    old = np.lib.NumpyVersion(np.__version__) < '2.0.0'
    core: Any = getattr(np, 'core' if old else '_core')
    functions: list[tuple[Callable[..., Any], str]] = []
    for name, function in (
        ('scalar', core.multiarray.scalar),
        ('_reconstruct', core.multiarray._reconstruct),
    ):
        functions += [(function, f'numpy.{c}.multiarray.{name}') for c in ('core', '_core')]
    paths = [(pathlib.PurePath, f'{m}.{n}') for m in ('pathlib', 'pathlib._local') for n in _PATHS]
    dtypes = {type(np.dtype(kind)) for kind in _DTYPES}
    lookup = (_history_method, 'builtins.getattr')
    # torch fills no others.
    filled = [(_plain_dict, 'collections.defaultdict'), (_plain_list, 'collections.deque')]
    own = [HistoryBuffer, *_PLAIN, np.ndarray, np.dtype, *dtypes]
    return [*own, *functions, *paths, *filled, lookup]


def _plain_dict(*_: Any) -> dict[Any, Any]:
    return {}


def _plain_list(values: Iterable[Any] = (), _: Any = None) -> list[Any]:
    return list(values)


def _history_method(owner: Any, name: str) -> Any:
    """Look up a public method of mmengine's ``HistoryBuffer``, and nothing else."""
    if owner is not HistoryBuffer or name.startswith('_'):
        raise UnpicklingError(f'GLOBAL getattr({owner!r}, {name!r}) is not allowed')
    return getattr(owner, name)
