"""Names and rows of many images in a few arrays.

Workers are forked, and share the memory of what they only read. Python counts references in every
object that it looks at, so lists of texts and dicts of arrays are copied page by page into each
worker; arrays are not.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, overload

import numpy as np
from numpy.typing import ArrayLike, NDArray

Rows = NDArray[np.float32]


class PackedNames(Sequence[str]):
    """A sequence of texts in two arrays.

    Args:
        names: The texts; what file systems allow beside Unicode is kept.
    """

    def __init__(self, names: Iterable[str]) -> None:
        encoded = [name.encode('utf-8', 'surrogateescape') for name in names]
        self._ends: NDArray[np.int64] = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
        self._bytes: NDArray[np.uint8] = np.frombuffer(b''.join(encoded), np.uint8)

    def __len__(self) -> int:
        return len(self._ends) - 1

    @overload
    def __getitem__(self, index: int) -> str: ...

    @overload
    def __getitem__(self, index: slice) -> PackedNames: ...

    def __getitem__(self, index: int | slice) -> str | PackedNames:
        if isinstance(index, slice):
            return PackedNames(self[i] for i in range(*index.indices(len(self))))
        if not -len(self) <= index < len(self):
            raise IndexError(f'expected an index below {len(self)}, got {index}')
        index %= len(self)
        part = self._bytes[self._ends[index] : self._ends[index + 1]]
        return part.tobytes().decode('utf-8', 'surrogateescape')

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and list(self) == list(other)

    __hash__ = None  # type: ignore[assignment]


class PackedRows(Mapping[str, Rows]):
    """Rows (P, C) float32 of each of many names, in four arrays.

    Args:
        names: Distinct names.
        owner: (N,) index of the name of each row, in any order; rows of a name keep theirs.
        rows: (N, C).
    """

    def __init__(self, names: Sequence[str], owner: NDArray[np.int64], rows: Rows) -> None:
        # In the order of their bytes, to be found by bisection.
        encoded = [name.encode('utf-8', 'surrogatepass') for name in names]
        order = sorted(range(len(encoded)), key=encoded.__getitem__)
        place = np.empty(len(order), np.int64)
        place[order] = np.arange(len(order))
        self._names = PackedNames(names[index] for index in order)
        self._keys = np.array([encoded[index] for index in order], dtype=np.bytes_)
        placed = place[owner]
        if len(placed) and (placed[1:] < placed[:-1]).any():
            by_name = np.argsort(placed, kind='stable')
            placed, rows = placed[by_name], rows[by_name]
        self.rows = rows
        self._starts = np.searchsorted(placed, np.arange(len(order) + 1))

    def __len__(self) -> int:
        return len(self._names)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __getitem__(self, name: str) -> Rows:
        key = name.encode('utf-8', 'surrogatepass') if isinstance(name, str) else b''
        index = int(np.searchsorted(self._keys, key)) if len(self) else 0
        if index == len(self) or self._keys[index] != key:
            raise KeyError(name)
        return self.rows[self._starts[index] : self._starts[index + 1]]


class RowBuilder:
    """Collect rows by name, compact from the first on.

    Args:
        columns: Numbers per row.
    """

    def __init__(self, columns: int) -> None:
        self.columns = columns
        self.index: dict[Any, int] = {}
        self._owner, self._values = array('q'), array('f')

    def add(self, name: Any, rows: ArrayLike) -> None:
        """Add rows (P, columns) of a name, which may have some already.

        Raises:
            ValueError: Rows are of another length.
        """
        own = np.asarray(rows, np.float32)
        if len(own) and own.shape[1:] != (self.columns,):
            raise ValueError(f'expected {self.columns} numbers per row of {name!r}, got others')
        owner = self.index.setdefault(name, len(self.index))
        self._values.frombytes(own.tobytes())
        self._owner.frombytes(np.full(len(own), owner, np.int64).tobytes())

    def owner(self) -> NDArray[np.int64]:
        """Position of the name of each row, (N,)."""
        return np.frombuffer(self._owner, np.int64) if self._owner else np.zeros(0, np.int64)

    def rows(self) -> Rows:
        """All rows (N, C), in the order in which they were added."""
        if not self._values:
            return np.zeros((0, self.columns), np.float32)
        return np.frombuffer(self._values, np.float32).reshape(-1, self.columns)
