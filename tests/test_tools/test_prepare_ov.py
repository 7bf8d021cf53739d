"""Annotation files of OV-COCO and OV-LVIS, made from drawn official files and from real ones."""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from refineclip.datasets.ov_splits import get_split
from tests.test_detection.toy_annotations import (
    annotations,
    coco_categories,
    lvis_categories,
    write_json,
)

Tool = Callable[[str], ModuleType]
TRAIN_65 = 'zero-shot/instances_train2017_seen_2_65_cat.json'
TEST_65 = 'zero-shot/instances_val2017_all_2.json'


@pytest.fixture
def tool(repo_root: Path) -> Tool:
    def load(stem: str) -> ModuleType:
        path = repo_root / 'tools' / 'prepare' / f'{stem}.py'
        spec = importlib.util.spec_from_file_location(f'tool_{stem}', path)
        assert spec is not None
        assert spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


def coco_root(root: Path) -> Path:
    """80 categories, one box each and one image each; two images without any box of the 65."""
    content = annotations(coco_categories(get_split('coco').classes), num_images=80, per_image=1)
    for part in ('train', 'val'):
        write_json(root / 'annotations' / f'instances_{part}2017.json', content)
    return root


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text())


def names_of_boxes(content: dict[str, Any]) -> list[str]:
    name = {category['id']: category['name'] for category in content['categories']}
    return [name[row['category_id']] for row in content['annotations']]


def test_ov_coco_splits(tool: Tool, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    split = get_split('ov-coco')
    assert tool('ov_coco').main([str(coco_root(tmp_path))]) == 0
    train, test = read(tmp_path / TRAIN_65), read(tmp_path / TEST_65)
    for made, classes in ((train, split.base), (test, split.classes)):
        assert [category['name'] for category in made['categories']] == list(split.classes)
        assert names_of_boxes(made) == list(classes)
        assert len(made['images']) == len(classes)
    # Ids stay COCO's: 'zebra' is the 23rd of 80 drawn categories, ids 3 i + 1.
    zebra = next(c for c in train['categories'] if c['name'] == 'zebra')
    assert zebra['id'] == 3 * get_split('coco').classes.index('zebra') + 1
    out = capsys.readouterr().out
    assert '48 images, 48 boxes, 65 categories, boxes of 48 classes' in out
    assert 'not checked: a subset of 80 of 118,287 images went in' in out


def test_ov_coco_80(tool: Tool, tmp_path: Path) -> None:
    split = get_split('ov-coco-80')
    assert tool('ov_coco').main([str(coco_root(tmp_path)), '--categories', '80']) == 0
    for name, classes in (
        ('train2017_base', split.base),
        ('val2017_base', split.base),
        ('val2017_novel', split.novel),
    ):
        made = read(tmp_path / 'zero-shot' / f'instances_{name}.json')
        assert [category['name'] for category in made['categories']] == list(split.classes)
        assert names_of_boxes(made) == list(classes)
        # Two evaluators look at the same predictions, so both know every image.
        assert len(made['images']) == 80


def test_full_coco_is_judged_by_the_published_counts(
    tool: Tool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    module = tool('ov_coco')
    assert module.PUBLISHED == {'train': 107_761, 'val': 4_836}
    monkeypatch.setattr(module, 'FULL', {'train': 80, 'val': 80})
    monkeypatch.setattr(module, 'PUBLISHED', {'train': 48, 'val': 65})
    assert module.main([str(coco_root(tmp_path))]) == 0
    assert 'OK: 48 images, published 48' in capsys.readouterr().out
    monkeypatch.setattr(module, 'PUBLISHED', {'train': 48, 'val': 64})
    assert module.main([str(tmp_path)]) == 1
    assert 'DIFFERS: 65 images, published 64' in capsys.readouterr().out


def test_ov_coco_of_other_annotations(tool: Tool, tmp_path: Path) -> None:
    content = annotations(coco_categories(('person', 'car')), num_images=1, per_image=2)
    for part in ('train', 'val'):
        write_json(tmp_path / 'annotations' / f'instances_{part}2017.json', content)
    with pytest.raises(SystemExit, match=r'expected the 80 categories of COCO.*bicycle'):
        tool('ov_coco').main([str(tmp_path)])


def test_ov_coco_without_annotations(
    tool: Tool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit, match='2'):
        tool('ov_coco').main([str(tmp_path)])
    assert 'got no file' in capsys.readouterr().err


def test_real_coco_subset(
    tool: Tool, shared_data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(shared_data / 'coco' / 'annotations', tmp_path / 'annotations')
    assert tool('ov_coco').main([str(tmp_path)]) == 0
    assert set(names_of_boxes(read(tmp_path / TRAIN_65))) <= set(get_split('ov-coco').base)
    assert 0 < len(read(tmp_path / TRAIN_65)['images']) <= 100
    assert 'not checked: a subset of 100 of' in capsys.readouterr().out


def lvis_root(root: Path, **changes: Any) -> Path:
    content = annotations(lvis_categories(), num_images=401, per_image=3, lvis=True)
    write_json(root / 'annotations' / 'lvis_v1_train.json', {**content, **changes})
    return root


def test_ov_lvis_keeps_all_categories_and_images(
    tool: Tool, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert tool('ov_lvis').main([str(lvis_root(tmp_path))]) == 0
    made = read(tmp_path / 'annotations' / 'lvis_v1_train_seen_1203_cat.json')
    assert (len(made['images']), len(made['categories'])) == (401, 1203)
    # 401 images of 3 boxes: each category once.
    assert names_of_boxes(made) == list(get_split('ov-lvis').base)
    out = capsys.readouterr().out
    assert '866 boxes, 337 of rare ones left out' in out
    assert 'not checked: 401 images, 866 seen and 337 rare categories' in out


def test_full_lvis_is_judged(tool: Tool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = tool('ov_lvis')
    assert module.FULL_IMAGES == 100_170
    monkeypatch.setattr(module, 'FULL_IMAGES', 401)
    assert module.main([str(lvis_root(tmp_path))]) == 0
    categories = lvis_categories()
    categories[0]['frequency'] = 'r'  # a list that is not LVIS v1's
    assert module.main([str(lvis_root(tmp_path, categories=categories))]) == 1


def test_lvis_without_frequency(tool: Tool, tmp_path: Path) -> None:
    categories = [{**category, 'frequency': None} for category in lvis_categories()]
    with pytest.raises(SystemExit, match=r"expected a frequency 'r', 'c' or 'f'.*aerosol_can"):
        tool('ov_lvis').main([str(lvis_root(tmp_path, categories=categories))])
