"""F-ViT and CAT-Seg as graphs: untrained heads of the toy configs, through the command."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

pytest.importorskip('mmdet.models')
pytest.importorskip('mmseg.models')
pytest.importorskip('onnxruntime')
pytest.importorskip('onnxscript')

from refineclip.__main__ import main

pytestmark = [pytest.mark.slow, pytest.mark.mm]


def checkpoint(config: Path, scope: str, folder: Path) -> Path:
    """What the training of a config would save at its start."""
    model = Config.fromfile(config).model
    init_default_scope(scope)
    torch.manual_seed(0)
    path = folder / 'start.pth'
    state = MODELS.build(model).state_dict()
    for name, value in state.items():
        if name.endswith('rpn_reg.weight'):
            # An untrained one moves boxes by 60 times their size: float32 itself is off by 2e-4.
            value *= 0.01
    torch.save({'state_dict': state, 'meta': {}}, path)
    return path


@pytest.mark.parametrize(
    ('config', 'scope', 'size', 'graphs'),
    [
        ('fvit_microworld.py', 'mmdet', '128', {'proposals_128x128', 'boxes_128x128'}),
        ('cat-seg_microworld.py', 'mmseg', '64', {'segment_64x64', 'text'}),
    ],
)
def test_heads_say_the_same(
    config: str,
    scope: str,
    size: str,
    graphs: set[str],
    repo_root: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(repo_root)  # configs name shipped files from there
    path = repo_root / 'configs' / 'microworld' / config
    weights, out = checkpoint(path, scope, tmp_path), tmp_path / 'out'
    argv = ['export', 'onnx', str(weights), '--config', str(path), '--size', size]
    assert main([*argv, '--out', str(out)]) == 0
    assert {one.stem for one in out.glob('*.onnx')} == graphs
    record = json.loads((out / 'refineclip_export.json').read_text())
    assert len(record['differences']) >= 4
    assert max(record['differences'].values()) < 1e-4
