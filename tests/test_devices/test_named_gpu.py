"""Everything that a user runs on a GPU, on a GPU in name only, in a process of its own."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

pytestmark = pytest.mark.skipif(
    tuple(int(part) for part in torch.__version__.split('.')[:2]) < (2, 9),
    reason='needs torch 2.9 for a device in name only',
)


def walk(repo_root: Path, *arguments: str, package: Path | None = None) -> dict[str, Any]:
    """Run cases with the package of the checkout, or with a changed copy of it."""
    places = [str(package or repo_root), str(repo_root)]
    done = subprocess.run(
        [sys.executable, '-W', 'ignore', '-m', 'tests.test_devices.walk', *arguments],
        env={**os.environ, 'PYTHONPATH': os.pathsep.join(places), 'HF_HUB_OFFLINE': '1'},
        cwd=package or repo_root,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    report = json.loads(done.stdout.strip().splitlines()[-1])
    assert report['ran']
    return report


def test_a_step_of_the_method(repo_root: Path) -> None:
    """The default suite's share; the whole walk is slow."""
    assert walk(repo_root, 'core', '-k', 'stage 2 r-sc-rla')['errors'] == {}


def test_a_forgotten_move_is_noticed(repo_root: Path, tmp_path: Path) -> None:
    shutil.copytree(repo_root / 'refineclip', tmp_path / 'refineclip')
    file = tmp_path / 'refineclip' / 'distill' / 'region_preprocessor.py'
    line = 'boxes=torch.cat([owner[:, None].float(), canvas_boxes], dim=1)'
    assert file.read_text().count(f' {line}.to(self.device)') == 1
    file.write_text(file.read_text().replace(f'{line}.to(self.device)', line))
    [error] = walk(repo_root, 'core', '-k', 'stage 2 rla', package=tmp_path)['errors'].values()
    assert 'expected tensors of one device' in error


@pytest.mark.slow
def test_training_and_evaluation(repo_root: Path) -> None:
    assert walk(repo_root, 'core')['errors'] == {}


@pytest.mark.slow
@pytest.mark.mm
def test_detection_and_segmentation(repo_root: Path) -> None:
    assert walk(repo_root, 'mm')['errors'] == {}
