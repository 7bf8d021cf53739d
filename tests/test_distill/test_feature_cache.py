"""The cache answers only for exactly what was asked, and never from half a file."""

from __future__ import annotations

import json
import logging
import os
from pathlib import Path

import pytest
import torch
from mmengine.registry import MODELS
from safetensors.torch import load_file
from torch import nn

import refineclip.distill  # noqa: F401
from refineclip.distill import feature_cache
from refineclip.distill.feature_cache import FeatureCache
from refineclip.distill.region_batch import RegionBatch
from refineclip.encoders.weights.weights_hash import weights_hash

from .toys import PREPROCESSOR, STUDENT, region_batch

BOXES = {
    'a.jpg': [[0.0, 0.0, 0.5, 0.5], [0.25, 0.25, 1.0, 1.0]],
    'b.jpg': [[0.0, 0.0, 1.0, 1.0]],
    'c.jpg': [[0.5, 0.0, 1.0, 0.5], [0.0, 0.5, 0.5, 1.0], [0.0, 0.0, 0.1, 0.1]],
}


def make_batch(names: str = 'abc', shift: float = 0.0) -> RegionBatch:
    """Images of one value each (a: 1, b: 2, c: 3) with one to three boxes."""
    paths = [f'{name}.jpg' for name in names]
    regions = torch.cat([torch.tensor(BOXES[path]) + shift for path in paths])
    owner = torch.tensor([i for i, path in enumerate(paths) for _ in BOXES[path]])
    values = torch.tensor([1.0 + 'abc'.index(name) for name in names])
    return RegionBatch(
        images=values[:, None, None, None].expand(-1, 3, 4, 4),
        boxes=torch.cat([owner[:, None].float(), regions], dim=1),
        regions=regions,
        cut_crops=None,
        crop_boxes=regions,
        img_paths=paths,
        img_ids=torch.arange(len(paths)),
        epochs=torch.zeros(len(paths), dtype=torch.long),
    )


class Teacher:
    """Counts the images it is asked about."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def map(self, batch: RegionBatch) -> torch.Tensor:
        self.seen += batch.img_paths
        return batch.images.mean(dim=1, keepdim=True) / 3

    def rows(self, batch: RegionBatch) -> torch.Tensor:
        self.seen += batch.img_paths
        owner = batch.boxes[:, 0].long()
        area = (batch.regions[:, 2:] - batch.regions[:, :2]).prod(dim=1)
        return torch.stack([batch.images[owner, 0, 0, 0], area], dim=1)


@pytest.fixture
def rows(tmp_path) -> FeatureCache:
    return FeatureCache(str(tmp_path), 'rows', {'weights': 'w'}, per_region=True)


@pytest.fixture
def maps(tmp_path) -> FeatureCache:
    return FeatureCache(str(tmp_path), 'map', {'weights': 'w'}, per_region=False)


def test_second_fetch_computes_nothing_and_equals_the_first(rows, maps):
    teacher = Teacher()
    first = rows.fetch(make_batch(), teacher.rows), maps.fetch(make_batch(), teacher.map)
    second = rows.fetch(make_batch(), teacher.rows), maps.fetch(make_batch(), teacher.map)
    assert teacher.seen == ['a.jpg', 'b.jpg', 'c.jpg'] * 2
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    # By hand: image values 1, 2, 3 per region, and the areas of BOXES.
    expected = [[1, 0.25], [1, 0.5625], [2, 1], [3, 0.25], [3, 0.25], [3, 0.01]]
    torch.testing.assert_close(second[0], torch.tensor(expected), atol=1e-4, rtol=0)
    assert second[1].shape == (3, 1, 4, 4)
    assert second[1].dtype == torch.float32


def test_stored_as_float16_and_no_worse_than_that(maps):
    teacher = Teacher()
    exact = teacher.map(make_batch())
    fetched = maps.fetch(make_batch(), teacher.map)
    assert 0 < (fetched - exact).abs().max() < 2**-11  # 1/3 and 2/3 are no binary fractions
    files = sorted(maps.folder.glob('*.safetensors'))
    assert len(files) == 3
    assert {value.dtype for value in load_file(files[0]).values()} == {torch.float16}


def test_only_the_images_that_are_missing_are_computed(rows, maps):
    teacher = Teacher()
    rows.fetch(make_batch('b'), teacher.rows)
    maps.fetch(make_batch('b'), teacher.map)
    teacher.seen.clear()
    mixed = rows.fetch(make_batch('cba'), teacher.rows)
    assert teacher.seen == ['c.jpg', 'a.jpg']
    assert mixed[:, 0].tolist() == [3, 3, 3, 2, 1, 1]
    mixed = maps.fetch(make_batch('cba'), teacher.map)
    assert torch.allclose(mixed[:, 0, 0, 0], torch.tensor([3.0, 2.0, 1.0]) / 3, atol=1e-3)


def test_other_boxes_miss_where_they_matter(rows, maps):
    teacher = Teacher()
    rows.fetch(make_batch('a'), teacher.rows)
    shifted = rows.fetch(make_batch('a', shift=1e-6), teacher.rows)
    assert teacher.seen == ['a.jpg', 'a.jpg']
    assert shifted.shape == (2, 2)
    maps.fetch(make_batch('a'), teacher.map)
    maps.fetch(make_batch('a', shift=0.1), teacher.map)
    assert len(teacher.seen) == 3


@pytest.mark.parametrize('version', [{'weights': 'v'}, {'weights': 'w', 'size': 32}])
def test_other_versions_are_refused_and_named(rows, tmp_path, monkeypatch, version):
    teacher, told = Teacher(), []
    monkeypatch.setattr(
        feature_cache, 'print_log', lambda text, logger, level: told.append((text, level))
    )
    rows.fetch(make_batch('a'), teacher.rows)
    other = FeatureCache(str(tmp_path), 'rows', version, per_region=True)
    other.fetch(make_batch('a'), teacher.rows)
    assert teacher.seen == ['a.jpg', 'a.jpg']
    changed = 'size' if 'size' in version else 'weights'
    assert len(told) == 1
    assert f"['{changed}']" in told[0][0]
    assert told[0][1] == logging.WARNING
    FeatureCache(str(tmp_path), 'rows', {'weights': 'w'}, True).fetch(make_batch('a'), teacher.rows)
    FeatureCache(str(tmp_path), 'map', version, False)  # another feature is no reason to warn
    assert len(teacher.seen) == 2
    assert len(told) == 1


def test_an_image_without_regions(rows, maps):
    batch = make_batch('ab')
    keep = batch.boxes[:, 0] == 0
    batch.boxes, batch.regions = batch.boxes[keep], batch.regions[keep]
    batch.crop_boxes = batch.crop_boxes[keep]
    for _ in range(2):
        assert rows.fetch(batch, Teacher().rows)[:, 0].tolist() == [1, 1]
        assert len(maps.fetch(batch, Teacher().map)) == 2


@pytest.mark.parametrize('died_in', ['write', 'rename'])
def test_a_killed_write_leaves_no_file(rows, monkeypatch, died_in):
    class Killed(BaseException):
        """Like a signal: nothing may catch it."""

    def half_write(tensors, path):
        path.write_bytes(b'half a fi')
        raise Killed

    def no_rename(source, target):
        raise Killed

    teacher = Teacher()
    with monkeypatch.context() as patch:
        if died_in == 'write':
            patch.setattr(feature_cache, 'save_file', half_write)
        else:
            patch.setattr(os, 'replace', no_rename)
        with pytest.raises(Killed):
            rows.fetch(make_batch('a'), teacher.rows)
    assert list(rows.folder.glob('*.safetensors')) == []
    assert rows.fetch(make_batch('a'), teacher.rows).shape == (2, 2)
    assert teacher.seen == ['a.jpg', 'a.jpg']


def test_weights_hash_sees_values_names_buffers_and_activations():
    def make(activation: type[nn.Module] = nn.GELU) -> nn.Sequential:
        torch.manual_seed(0)
        return nn.Sequential(nn.Linear(2, 2), activation(), nn.BatchNorm1d(2))

    reference = weights_hash(make())
    assert weights_hash(make()) == reference
    assert weights_hash(make(nn.SiLU)) != reference  # the same weights mean something else
    value, buffer = make(), make()
    with torch.no_grad():
        value[0].weight[0, 0] += 1e-6
    buffer[2].running_mean[0] += 1
    assert len({reference, weights_hash(value), weights_hash(buffer)}) == 3
    assert weights_hash(make().bfloat16()) != reference


def test_weights_hash_sees_the_number_of_heads():
    few, many = nn.MultiheadAttention(8, 2), nn.MultiheadAttention(8, 4)
    many.load_state_dict(few.state_dict())
    assert weights_hash(few) != weights_hash(many)


def stage_two(tmp_path, **kwargs):
    torch.manual_seed(0)
    return MODELS.build(
        {
            **dict(
                type='RegionAlignment',
                student=STUDENT,
                rla=dict(type='CLIPSelfLoss'),
                scd=dict(type='SCDLoss', roi_size=2),
                refiner=dict(num_blocks=2),
                cache_dir=str(tmp_path),
                data_preprocessor=PREPROCESSOR,
            ),
            **kwargs,
        }
    )


def num_versions(root, feature: str) -> int:
    """Number of cache folders that hold this feature."""
    versions = [json.loads(path.read_text()) for path in root.glob('*/version.json')]
    return sum(version['feature'] == feature for version in versions)


@pytest.mark.parametrize(
    'change',
    [
        dict(student=dict(STUDENT, dense_mode='plain')),
        dict(refiner=dict(num_blocks=2, input='output')),
        dict(method='sc-rla'),
        dict(data_preprocessor=dict(PREPROCESSOR, crop_enlarge=1.5)),
        dict(scd_teacher=dict(STUDENT)),
    ],
    ids=lambda change: next(iter(change)),
)
def test_stage_two_never_answers_for_another_setting(tmp_path, change):
    model = stage_two(tmp_path)
    model.teacher_features(region_batch(model))
    other = stage_two(tmp_path, **change)
    other.teacher_features(region_batch(other))
    assert num_versions(tmp_path, 'map') == 2
    # Image embeddings of crops depend on neither mode nor Refiner.
    assert num_versions(tmp_path, 'crops') == 1 + ('data_preprocessor' in change)


def test_stage_two_separates_the_modes_of_an_scd_teacher(tmp_path):
    for mode in ('value', 'plain'):
        model = stage_two(tmp_path, scd_teacher=dict(STUDENT, dense_mode=mode))
        model.teacher_features(region_batch(model))
    assert num_versions(tmp_path, 'map') == 2


def test_stage_two_loss_from_the_cache_equals_the_computed_one(tmp_path, monkeypatch):
    model = stage_two(tmp_path)
    plain = stage_two(tmp_path, cache_dir=None)
    expected = plain(region_batch(plain), mode='loss')
    model(region_batch(model), mode='loss')
    monkeypatch.setattr(model.teacher.visual, 'embed', None)  # a second look must not compute
    cached = model(region_batch(model), mode='loss')
    for name, value in expected.items():
        torch.testing.assert_close(cached[name], value, atol=2e-3, rtol=2e-3)


def test_a_replaced_picture_is_computed_anew(rows, tmp_path):
    picture, boxes = tmp_path / 'a.jpg', torch.zeros(1, 4)
    picture.write_bytes(b'one')
    first = rows.path(str(picture), boxes)
    assert rows.path(str(picture), boxes) == first
    picture.write_bytes(b'another')
    assert rows.path(str(picture), boxes) != first


def test_what_float16_cannot_hold_is_an_error(maps):
    with pytest.raises(ValueError, match='float16'):
        maps.fetch(make_batch(), lambda batch: torch.full((len(batch), 1), 1e6))
    assert not list(maps.folder.glob('*.safetensors'))


def test_version_is_written_once_and_whole(tmp_path, monkeypatch):
    def half_write(self, text):
        self.write_bytes(text[:5].encode())
        raise KeyboardInterrupt

    version = dict(weights='w')
    with monkeypatch.context() as patch:
        patch.setattr(Path, 'write_text', half_write)
        with pytest.raises(KeyboardInterrupt):
            FeatureCache(str(tmp_path), 'map', version, per_region=False)
    assert list(tmp_path.glob('*/version.json')) == []
    FeatureCache(str(tmp_path), 'map', version, per_region=False)
    [file] = tmp_path.glob('*/version.json')
    assert json.loads(file.read_text()) == dict(feature='map', weights='w')
    written = file.stat().st_ino
    FeatureCache(str(tmp_path), 'map', version, per_region=False)
    assert file.stat().st_ino == written


def test_a_file_that_is_cut_off_is_computed_anew(rows):
    teacher = Teacher()
    first = rows.fetch(make_batch(), teacher.rows)
    teacher.seen.clear()
    path = rows.path('b.jpg', make_batch('b').regions)
    path.write_bytes(path.read_bytes()[:-1])
    assert torch.equal(rows.fetch(make_batch(), teacher.rows), first)
    assert teacher.seen == ['b.jpg']
    assert torch.equal(rows.fetch(make_batch(), teacher.rows), first)
    assert teacher.seen == ['b.jpg']


def test_a_description_that_is_cut_off_is_of_no_cache(tmp_path):
    cache = FeatureCache(str(tmp_path), 'map', dict(weights='w'), per_region=False)
    (cache.folder / 'version.json').write_text('{"feature": "ma')
    other = FeatureCache(str(tmp_path), 'map', dict(weights='x'), per_region=False)
    assert other.folder != cache.folder
