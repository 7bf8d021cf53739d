"""Names and rows in arrays: as lists and dicts, but for their memory."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from refineclip.datasets.packed import PackedNames, PackedRows, RowBuilder

NAMES = ['a.jpg', '', 'ä/b.png', 'c\udcff.jpg']  # the last: bytes that are no utf-8


def test_names() -> None:
    names = PackedNames(NAMES)
    assert list(names) == NAMES
    assert names == NAMES
    assert names[-1] == NAMES[-1]
    assert names[1:3] == NAMES[1:3]
    assert pickle.loads(pickle.dumps(names)) == NAMES
    with pytest.raises(IndexError, match='below 4'):
        names[4]
    assert len(PackedNames([])) == 0


def test_rows_in_any_order() -> None:
    builder = RowBuilder(2)
    builder.add('b', [[1, 2], [3, 4]])
    builder.add('a', [])
    builder.add('ä', [[5, 6]])
    builder.add('b', [[7, 8]])
    rows = PackedRows(list(builder.index), builder.owner(), builder.rows())
    assert len(rows) == 3
    assert sorted(rows) == ['a', 'b', 'ä']
    assert rows['b'].tolist() == [[1, 2], [3, 4], [7, 8]]
    assert rows['a'].shape == (0, 2)
    assert rows['ä'].tolist() == [[5, 6]]
    assert rows.get('c') is None
    assert rows.get('') is None


def test_no_rows() -> None:
    builder = RowBuilder(3)
    rows = PackedRows([], builder.owner(), builder.rows())
    assert rows.get('a') is None
    assert dict(rows) == {}


def test_rows_of_another_length_are_refused() -> None:
    with pytest.raises(ValueError, match="expected 3 numbers per row of 'a'"):
        RowBuilder(3).add('a', [[1, 2]])


def test_arrays_hold_no_objects() -> None:
    rows = PackedRows(['a'], np.zeros(1, np.int64), np.zeros((1, 5), np.float32))
    values = [vars(rows)['rows'], rows._keys, rows._starts, *vars(rows._names).values()]
    assert all(isinstance(v, np.ndarray) and v.dtype != object for v in values)
