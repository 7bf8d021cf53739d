from __future__ import annotations

import os
from collections.abc import Callable
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
    monkeypatch.setattr(PanopticEvaluation, 'regions_of_item', called)


def every(of_image: Callable[[int], Any]) -> list[Any]:
    """Features of both images."""
    return [of_image(index) for index in range(2)]


def test_second_call_reads(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = FeatureStore(tmp_path / 'cache')
    encoders = load_encoders(SPECS, TOWER)
    maps = every(store.maps(evaluation_of(root), encoders))
    regions = every(store.regions(evaluation_of(root), encoders, crops=True))
    # Two images, three encoders, maps and regions.
    assert len(list((tmp_path / 'cache').glob('*/*.safetensors'))) == 12
    forbid(monkeypatch)
    again = every(store.maps(evaluation_of(root), load_encoders(SPECS, TOWER)))
    torch.testing.assert_close(again, maps, atol=0, rtol=0)
    cached = every(store.regions(evaluation_of(root), encoders, crops=True))
    for old, new in zip(regions, cached, strict=True):
        for way, value in old['tapped'].items():
            torch.testing.assert_close(getattr(new['tapped'], way), value, atol=0, rtol=0)


@pytest.mark.parametrize(
    'change', ['weights', 'geometry', 'picture', 'labels', 'rules', 'mode', 'crops']
)
def test_what_changes_features_is_not_found(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    store = FeatureStore(tmp_path / 'cache')
    encoders = load_encoders({'a': 'random'}, TOWER)
    every(store.regions(evaluation_of(root), encoders, crops=False))
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
    elif change == 'labels':
        os.utime(root / 'annotations/panoptic_val2017/000.png', (1, 1))
    forbid(monkeypatch)
    with pytest.raises(AssertionError, match='computed again'):
        every(store.regions(evaluation, encoders, crops=crops))


def test_nothing_is_kept_without_a_folder(root: Path) -> None:
    maps = FeatureStore(None).maps(evaluation_of(root), load_encoders({'c': 'colour'}, TOWER))
    assert [list(one) for one in every(maps)] == [['c'], ['c']]


def test_a_call_that_was_stopped_goes_on(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = FeatureStore(tmp_path / 'cache')
    encoders = load_encoders(SPECS, TOWER)
    whole = every(FeatureStore(None).maps(evaluation_of(root), encoders))
    store.maps(evaluation_of(root), encoders)(0)
    computed, maps_of_image = [], PanopticEvaluation.maps_of_image

    def count(self: PanopticEvaluation, index: int, *args: Any) -> Any:
        computed.append(index)
        return maps_of_image(self, index, *args)

    monkeypatch.setattr(PanopticEvaluation, 'maps_of_image', count)
    torch.testing.assert_close(every(store.maps(evaluation_of(root), encoders)), whole)
    assert computed == [1]
