"""The rows at toy size, in a process of their own: numbers and the file, no times."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.skipif(sys.platform != 'linux', reason='peak memory is read from /proc')

# One of each goal; the slow test runs them all.
ROWS = [
    'loader',
    'pixels',
    'stage2-step',
    'stage1-cached-trunk',
    'streamed-scd-560',
    'crop-cache',
]


def run_quick(folder: Path, repo_root: Path, *names: str) -> dict[str, Any]:
    command = [sys.executable, '-m', 'benchmarks', *names, '--quick', '--out', str(folder)]
    environment = {**os.environ, 'OMP_NUM_THREADS': '1'}
    result = subprocess.run(command, cwd=repo_root, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-3000:]
    return json.loads((folder / 'results.json').read_text())


@pytest.fixture(scope='module')
def rows(tmp_path_factory: pytest.TempPathFactory, repo_root: Path) -> dict[str, Any]:
    return run_quick(tmp_path_factory.mktemp('benchmarks'), repo_root, *ROWS)


@pytest.mark.parametrize('name', ROWS)
def test_both_sides_give_the_same_numbers(rows: dict[str, Any], name: str) -> None:
    row = rows[name]
    assert row['differences'].keys() == row['tolerances'].keys()
    assert row['differences']
    for number, difference in row['differences'].items():
        assert 0 <= difference <= row['tolerances'][number]


def test_pixel_paths_differ_by_rounding_only(rows: dict[str, Any]) -> None:
    """Not by nothing either: that would mean that a side was compared with itself."""
    assert all(0 < value < 0.7 for value in rows['pixels']['differences'].values())


def test_rows_say_how_they_were_measured(rows: dict[str, Any]) -> None:
    for row in rows.values():
        assert row['quick']
        assert row['threads'] == 1
        assert row['setting'] == 'toy sizes'
        assert row['goals'] == []
        assert row['command'].startswith('python -m benchmarks loader')
        assert {'torch', 'torchvision', 'timm'} <= row['versions'].keys()
        assert len(row['seconds'][0]) == len(row['seconds'][1]) == 2
    assert rows['stage2-step']['figures'].keys() == {'speedup', 'cpu_speedup', 'memory'}
    assert rows['loader']['peak_mib'] is None
    assert platform.node() not in json.dumps(rows)


def test_bytes_of_an_item(rows: dict[str, Any]) -> None:
    facts = rows['loader']['facts']
    template = 4 * (3 * 64**2 + 20 * 3 * 32**2 + 20 * 4) + 20
    assert facts['published_mib'] * 2**20 == pytest.approx(template)
    assert facts['our_mib'] * 2**20 == pytest.approx(3 * 640 * 480 + 16 * 4 * 4)


@pytest.mark.slow
def test_every_row_runs(tmp_path: Path, repo_root: Path) -> None:
    rows = run_quick(tmp_path, repo_root)
    assert set(ROWS) < set(rows)
    for row in rows.values():
        assert 'skipped' in row or row['differences']
