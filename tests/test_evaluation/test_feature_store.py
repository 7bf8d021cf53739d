from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from refineclip.datasets.coco_panoptic import CocoPanoptic
from refineclip.evaluation import PanopticEvaluation, RegionRules, load_encoders
from refineclip.evaluation.feature_store import FeatureStore

from .toy_panoptic import PATCH, preprocessor, write_coco

TOWER = dict(
    embed_dim=12, vision_cfg=dict(image_size=32, layers=2, width=16, head_width=8, patch_size=PATCH)
)
SPECS = {'random': 'random', 'tapped': 'random@0', 'colour': 'colour'}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_coco(tmp_path / 'coco', num_images=2)


def evaluation_of(root: Path, resize: str = 'letterbox', **kwargs: object) -> PanopticEvaluation:
    return PanopticEvaluation(CocoPanoptic(root), preprocessor(resize), PATCH, **kwargs)


def forbid(monkeypatch: pytest.MonkeyPatch) -> None:
    def called(*args: object) -> None:
        raise AssertionError('computed again')

    monkeypatch.setattr(PanopticEvaluation, 'maps_of_image', called)
    monkeypatch.setattr(PanopticEvaluation, 'region_features', called)


def test_second_call_reads(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FeatureStore(tmp_path / 'cache')
    encoders = load_encoders(SPECS, TOWER)
    maps = list(store.maps(evaluation_of(root), encoders))
    regions = store.regions(evaluation_of(root), encoders, crops=True)
    assert len(list((tmp_path / 'cache').glob('*/*.safetensors'))) == 6  # two images each
    assert len(list((tmp_path / 'cache').glob('*.safetensors'))) == 3
    forbid(monkeypatch)
    again = list(store.maps(evaluation_of(root), load_encoders(SPECS, TOWER)))
    torch.testing.assert_close(again, maps, atol=0, rtol=0)
    cached = store.regions(evaluation_of(root), encoders, crops=True)['tapped']
    for way, value in regions['tapped'].items():
        torch.testing.assert_close(getattr(cached, way), value, atol=0, rtol=0)


@pytest.mark.parametrize('change', ['weights', 'geometry', 'picture', 'rules', 'mode', 'crops'])
def test_what_changes_features_is_not_found(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    store = FeatureStore(tmp_path / 'cache')
    encoders = load_encoders({'a': 'random'}, TOWER)
    store.regions(evaluation_of(root), encoders, crops=False)
    evaluation, crops = evaluation_of(root), change == 'crops'
    if change == 'weights':
        encoders = load_encoders({'a': 'random'}, TOWER, seed=1)
    elif change == 'mode':
        encoders = load_encoders({'a': 'random'}, TOWER, dense_mode='plain')
    elif change == 'geometry':
        evaluation = evaluation_of(root, 'squash')
    elif change == 'rules':
        evaluation = evaluation_of(root, rules=RegionRules(mask_pooling='any'))
    elif change == 'picture':
        os.utime(root / 'val2017/000.png', (1, 1))
    forbid(monkeypatch)
    with pytest.raises(AssertionError, match='computed again'):
        store.regions(evaluation, encoders, crops=crops)


def test_nothing_is_kept_without_a_folder(root: Path) -> None:
    maps = FeatureStore(None).maps(evaluation_of(root), load_encoders({'c': 'colour'}, TOWER))
    assert [list(one) for one in maps] == [['c'], ['c']]


def test_a_call_that_was_stopped_goes_on(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FeatureStore(tmp_path / 'cache')
    encoders = load_encoders(SPECS, TOWER)
    whole = list(FeatureStore(None).maps(evaluation_of(root), encoders))
    next(store.maps(evaluation_of(root), encoders))
    computed, maps_of_image = [], PanopticEvaluation.maps_of_image

    def count(self: PanopticEvaluation, index: int, *args: Any) -> Any:
        computed.append(index)
        return maps_of_image(self, index, *args)

    monkeypatch.setattr(PanopticEvaluation, 'maps_of_image', count)
    torch.testing.assert_close(list(store.maps(evaluation_of(root), encoders)), whole)
    assert computed == [1]
