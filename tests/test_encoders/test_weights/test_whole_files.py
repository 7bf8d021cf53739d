"""Whole or absent when written, made anew when broken."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from refineclip.encoders.weights.whole_files import read_cached, write_whole


def test_a_write_that_fails_leaves_what_was_there(tmp_path: Path) -> None:
    write_whole(tmp_path / 'a', lambda path: path.write_text('old'))

    def fail(path: Path) -> None:
        path.write_text('ne')
        raise OSError(errno.ENOSPC, 'No space left on device')

    with pytest.raises(OSError, match='No space left'):
        write_whole(tmp_path / 'a', fail)
    assert [path.name for path in tmp_path.iterdir()] == ['a']
    assert (tmp_path / 'a').read_text() == 'old'


def test_only_a_whole_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / 'a.safetensors'
    assert read_cached(path) is None
    save_file({'x': torch.ones(3)}, path)
    assert read_cached(path, ('x',))['x'].tolist() == [1, 1, 1]
    assert read_cached(path, ('x', 'y')) is None
    content = path.read_bytes()
    for length in range(len(content)):
        path.write_bytes(content[:length])
        assert read_cached(path) is None, length
