"""The refined rows that the page opens with: what they are worth, and where they come from."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F
from torchvision.ops import masks_to_boxes, roi_align

from refineclip.commands.app import world
from refineclip.datasets.microworld import NAMED_KINDS, Microworld
from refineclip.datasets.microworld.vocabulary import NAMES
from refineclip.encoders.build import build_clip
from refineclip.encoders.refiner_clip import RefinerCLIP
from refineclip.encoders.text.embedder import TextEmbedder
from refineclip.evaluation.encoders import load_encoders

NO_DEMO = Path('no/demo')


@pytest.fixture(scope='module')
def encoders() -> dict[str, Any]:
    return load_encoders(world.rows(NO_DEMO), world.MODEL)


@pytest.fixture(scope='module')
def accuracy(encoders: dict[str, Any]) -> dict[str, float]:
    """Share of the named objects of 60 images whose box each row names; chance is 1 / 16."""
    scenes = [Microworld('val')[index] for index in range(60)]
    images = torch.stack([torch.from_numpy(one.image).permute(2, 0, 1) for one in scenes])
    boxes, kinds = [], []
    for index, scene in enumerate(scenes):
        for number, kind in enumerate(scene.kinds, 1):
            mask = torch.from_numpy(scene.instances == number)
            if kind < NAMED_KINDS and mask.any():
                boxes.append(torch.cat([torch.tensor([[index]]), masks_to_boxes(mask[None])], 1))
                kinds.append(kind)
    texts = TextEmbedder(build_clip(world.MODEL, world.WEIGHTS).eval(), ['a {}']).embed(list(NAMES))
    found = {}
    with torch.no_grad():
        for row, encoder in encoders.items():
            mean, std = (
                torch.tensor(one)[:, None, None] for one in (encoder.image_mean, encoder.image_std)
            )
            maps = encoder.dense((images / 255 - mean) / std)
            pooled = roi_align(
                maps, torch.cat(boxes), 1, 1 / encoder.visual.patch_size, aligned=True
            )
            named = (F.normalize(pooled.flatten(1), dim=1) @ texts.T).argmax(dim=1)
            found[row] = float((named == torch.tensor(kinds)).float().mean())
    return found


def test_refined_rows_name_boxes_better_than_the_frozen_clip(accuracy: dict[str, float]) -> None:
    assert list(accuracy) == ['frozen CLIP', 'Refiner', 'RLA', 'R-SC-RLA']
    assert accuracy['RLA'] > accuracy['frozen CLIP'] + 0.2
    assert accuracy['R-SC-RLA'] > accuracy['frozen CLIP'] + 0.12


def test_the_refiner_stands_on_the_shipped_tower(encoders: dict[str, Any]) -> None:
    """Half precision lost nothing of it: rows of equal weights share one module."""
    assert encoders['Refiner'].visual is encoders['frozen CLIP'].visual
    assert encoders['Refiner'].refiner.num_blocks == 3
    assert encoders['RLA'].refiner is None
    assert sum(path.stat().st_size for path in world.SHIPPED_ROWS.values()) < 8e6


def test_files_are_made_from_a_demo(
    repo_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(str(repo_root / 'tools' / 'dev'))
    from ship_rows import ship

    demo, out = tmp_path / 'demo', tmp_path / 'out'
    with pytest.raises(ValueError, match='got none of Refiner, RLA, R-SC-RLA'):
        ship(demo, out)
    files = ('refiner_seed0/iter_2', 'rla_seed0/refined_iter_2', 'r-sc-rla_seed0/refined_iter_2')
    for index, name in enumerate(files):
        path = demo / 'runs' / f'{name}.pth'
        path.parent.mkdir(parents=True)
        torch.manual_seed(index)
        refiner = None if index else dict(num_blocks=2)
        torch.save(RefinerCLIP(world.MODEL, None, refiner=refiner).state_dict(), path)
    (demo / '.refineclip-demo').write_text(json.dumps({'quick': False}))
    ship(demo, out)
    monkeypatch.delitem(sys.modules, 'ship_rows')
    made = load_file(out / 'rla.safetensors')
    trained = torch.load(demo / 'runs' / f'{files[1]}.pth', weights_only=True)
    assert made.keys() == trained.keys()
    assert all(torch.equal(value, trained[key].half()) for key, value in made.items())
    assert any(key.startswith('refiner.') for key in load_file(out / 'refiner.safetensors'))
