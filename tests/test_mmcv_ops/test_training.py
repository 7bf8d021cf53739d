"""F-ViT, CAT-Seg and a stock Mask R-CNN train alike with compiled operators and with ours."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from refineclip.mmcv_ops import has_compiled_ops

from . import without_ops

pytestmark = [
    pytest.mark.mm,
    pytest.mark.slow,
    pytest.mark.skipif(
        not has_compiled_ops(), reason='needs mmcv with compiled operators: make test OPS=compiled'
    ),
]


def train(folder: Path, env: dict[str, str]) -> dict[str, Any]:
    script = Path(__file__).with_name('train_toys.py')
    done = subprocess.run(
        [sys.executable, str(script), str(folder)], env=env, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    return torch.load(folder / 'results.pt', weights_only=True)


def test_losses_and_weights_are_equal(tmp_path) -> None:
    for name in ('compiled', 'ours'):
        (tmp_path / name).mkdir()
    plain = {**os.environ, 'PYTHONPATH': str(without_ops.ROOT), 'CUDA_VISIBLE_DEVICES': ''}
    compiled = train(tmp_path / 'compiled', plain)
    ours = train(tmp_path / 'ours', without_ops.environment(tmp_path / 'path'))
    assert (compiled.pop('stands_in'), ours.pop('stands_in')) == (False, True)
    for recipe, expected in compiled.items():
        for before, after in zip(expected['losses'], ours[recipe]['losses'], strict=True):
            assert after == pytest.approx(before, abs=1e-5), recipe
        torch.testing.assert_close(ours[recipe]['weights'], expected['weights'], rtol=0, atol=1e-4)
