"""The tools that prepare segmentation labels, on tiny sets in the layouts that are downloaded."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

pytest.importorskip('mmseg.datasets')

from tests.test_segmentation import toy_layouts
from tests.test_segmentation.toy_text import stripes, write_labels

pytestmark = pytest.mark.mm
TOOLS = ('preparing', 'check', 'cityscapes', 'coco_stuff', 'coco_object')
TOOLS += ('pascal_context_59', 'pascal_context_459', 'ade20k_847')


@pytest.fixture
def tool(repo_root: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], ModuleType]]:
    """Import a tool the way it is run: with its own folder on the path."""
    monkeypatch.syspath_prepend(str(repo_root / 'tools' / 'prepare'))
    yield importlib.import_module
    for name in TOOLS:
        sys.modules.pop(name, None)


def row(path: Path, count: int) -> list[int]:
    labels = np.asarray(Image.open(path))
    assert labels.shape == (40, 48)
    return labels[0, :: 48 // count].tolist()


def test_check_judges_each_benchmark(tool, tmp_path: Path, capsys) -> None:
    toy_layouts.ade150(toy_layouts.voc2012(tmp_path))
    argv = ['a150,voc20,voc20b,pc59', '--data-root', str(tmp_path)]
    assert tool('check').main(argv) == 1
    out = capsys.readouterr().out
    # VOC20's two label folders; ADE's labels are the same in both tables and are read once.
    assert out.count('PARTIAL: 3 images, published are') == 4
    assert 'training-free/voc20 (VOC20)' in out
    assert 'cat-seg/voc20 (VOC20)' in out
    assert '2,000' in out
    assert 'pc59: expected Context59' in out
    assert '20 background' not in out


def test_check_is_content_with_the_published_number(tool, tmp_path, capsys, monkeypatch) -> None:
    from refineclip.segmentation import benchmarks
    from refineclip.segmentation.benchmarks.benchmark import Benchmark

    toy_layouts.voc2012(tmp_path)
    full = benchmarks.BENCHMARKS['training-free/voc21']
    small = Benchmark(**{**vars(full), 'counts': (3,)})
    monkeypatch.setitem(benchmarks.BENCHMARKS, 'training-free/voc21', small)
    assert tool('check').main(['voc21', '--data-root', str(tmp_path)]) == 0
    assert 'complete: 3 images, as published' in capsys.readouterr().out


def test_unknown_benchmark(tool, capsys) -> None:
    with pytest.raises(SystemExit) as caught:
        tool('check').main(['voc22'])
    assert caught.value.code == 2
    assert 'expected a benchmark out of' in capsys.readouterr().err


def test_cityscapes(tool, tmp_path: Path, capsys) -> None:
    root = toy_layouts.cityscapes(tmp_path)  # stripes 0, 7, 26, 33
    assert tool('cityscapes').main(['--data-root', str(root)]) == 1
    folder = root / 'cityscapes' / 'gtFine' / 'val' / 'munster'
    made = sorted(folder.glob('*_gtFine_labelTrainIds.png'))
    assert len(made) == 2
    assert row(made[0], 4) == [255, 0, 13, 18]
    assert '3 of 19 occur' in capsys.readouterr().out


def test_coco_stuff_and_object(tool, tmp_path: Path, capsys) -> None:
    root = toy_layouts.coco_stuff(tmp_path)  # stripes 0, 89, 91, 181, 255, 12
    assert tool('coco_stuff').main(['--data-root', str(root)]) == 1
    assert tool('coco_object').main(['--data-root', str(root)]) == 1
    base = root / 'coco_stuff164k' / 'annotations' / 'val2017' / toy_layouts.COCO_STEMS[0]
    assert row(Path(f'{base}_labelTrainIds.png'), 6) == [0, 79, 80, 170, 255, 11]
    assert row(Path(f'{base}_instanceTrainIds.png'), 6) == [1, 80, 0, 0, 0, 12]
    # What is there already is not taken for a source.
    assert len(tool('coco_stuff').sources(root, 'val2017')) == 3
    assert 'labels 0..80' in capsys.readouterr().out


def test_coco_ids_in_use(tool) -> None:
    stuff = tool('coco_stuff')
    assert len(stuff.USED) == 171
    from mmseg.datasets import COCOStuffDataset

    names = COCOStuffDataset.METAINFO['classes']
    # Ids as COCO numbers them: 13 stop sign, 90 toothbrush from 1; one less here.
    assert names[stuff.TABLE[12]] == 'stop sign'
    assert names[stuff.TABLE[89]] == 'toothbrush'
    assert names[stuff.TABLE[91]] == 'banner'


def test_foreign_ids_stop_the_conversion(tool, tmp_path: Path) -> None:
    root = toy_layouts.coco_stuff(tmp_path, stripes(0, 182))
    with pytest.raises(
        SystemExit, match=r'000000000139\.png: expected labels 0\.\.255, got \[182\]'
    ):
        tool('coco_stuff').main(['--data-root', str(root)])


def test_context459(tool, tmp_path: Path, capsys) -> None:
    root = toy_layouts.context459(tmp_path)  # stripes 1, 256 + seed, 459
    assert tool('pascal_context_459').main(['--data-root', str(root)]) == 1
    folder = root / 'VOCdevkit' / 'VOC2010' / 'annotations_detectron2' / 'pc459_val'
    assert sorted(path.stem for path in folder.iterdir()) == sorted(toy_layouts.STEMS)
    assert row(folder / f'{toy_layouts.STEMS[1]}.tif', 3) == [0, 256, 458]
    assert np.asarray(Image.open(folder / f'{toy_layouts.STEMS[0]}.tif')).dtype == np.uint16
    out = capsys.readouterr().out
    assert 'labels 0..458, 5 of 459 occur' in out
    assert 'PARTIAL: 3 images, published are 5,105 or 5,104' in out
    (root / 'VOCdevkit' / 'VOC2010' / 'trainval' / f'{toy_layouts.STEMS[2]}.mat').unlink()
    with pytest.raises(SystemExit, match='1 are not there'):
        tool('pascal_context_459').main(['--data-root', str(root)])


def test_context459_out_of_range(tool, tmp_path: Path) -> None:
    from scipy.io import savemat

    savemat(tmp_path / 'a.mat', {'LabelMap': np.array([[0, 460]], dtype=np.uint16)})
    with pytest.raises(SystemExit, match=r'expected labels 0\.\.459, got 0\.\.460'):
        tool('pascal_context_459').convert(tmp_path / 'a.mat')
    savemat(tmp_path / 'a.mat', {'LabelMap': np.array([[0, 459]], dtype=np.uint16)})
    assert tool('pascal_context_459').convert(tmp_path / 'a.mat').tolist() == [[65535, 458]]


def test_context59(tool, tmp_path: Path, capsys) -> None:
    root = toy_layouts.context_json(tmp_path)  # stripes: none, aeroplane, wood, mountain
    assert tool('pascal_context_59').main(['--data-root', str(root)]) == 1
    base = root / 'VOCdevkit' / 'VOC2010'
    listed = (base / 'ImageSets' / 'SegmentationContext' / 'val.txt').read_text().split()
    assert listed == list(toy_layouts.STEMS[:2])
    found = row(base / 'SegmentationClassContext' / f'{listed[0]}.png', 4)
    from mmseg.datasets import PascalContextDataset

    classes = PascalContextDataset.METAINFO['classes']
    assert [classes[label] for label in found] == ['background', 'aeroplane', 'wood', 'mountain']
    out = capsys.readouterr().out
    assert 'pc59 (Context59): 2 images, 2 good label maps' in out
    assert 'pc60 (Context60): 2 images, 2 good label maps' in out
    with pytest.raises(SystemExit, match="phase 'test'"):
        tool('pascal_context_59').main(['--data-root', str(root), '--splits', 'test'])


@pytest.mark.parametrize('suffix', ['.json', '.py'])
def test_ade847(tool, tmp_path: Path, capsys, suffix: str) -> None:
    root = toy_layouts.ade_full(tmp_path / 'data')  # stripes: wall, building, none, another
    classes = tmp_path / f'classes{suffix}'
    text = json.dumps(toy_layouts.ade_classes())
    classes.write_text(text if suffix == '.json' else f'import cv2\nC = {text}\nraise SystemExit\n')
    assert tool('ade20k_847').main(['--data-root', str(root), '--classes', str(classes)]) == 1
    base = root / 'ADE20K_2021_17_01'
    made = base / 'annotations_detectron2' / 'validation' / 'ADE_val_00000001.tif'
    assert row(made, 4) == [0, 1, 65535, 65535]
    assert np.asarray(Image.open(made)).dtype == np.uint16
    listed = json.loads((base / 'classes_847.json').read_text())
    assert listed[:2] == [dict(id=2978, name='wall'), dict(id=312, name='building;edifice')]
    assert [one['name'] for one in listed if one['name'].startswith('bag')] == [
        *('bag;one', 'bag;handbag', 'bag')
    ]
    out = capsys.readouterr().out
    assert 'a847 (ADE20K-847): 3 images, 3 good label maps' in out
    assert '50.0% of the pixels ignored' in out


def test_ade847_shrinks_as_published(tool, tmp_path: Path) -> None:
    root = toy_layouts.ade_full(tmp_path, (600, 520))
    classes = tmp_path / 'classes.json'
    classes.write_text(json.dumps(toy_layouts.ade_classes()))
    tool('ade20k_847').main(['--data-root', str(root), '--classes', str(classes)])
    base = root / 'ADE20K_2021_17_01'
    for folder, suffix in (('images', 'jpg'), ('annotations', 'tif')):
        path = base / f'{folder}_detectron2' / 'validation' / f'ADE_val_00000001.{suffix}'
        assert Image.open(path).size == (591, 512)  # 600 * 512 / 520 = 590.8
    shrink = tool('ade20k_847').shrink
    assert shrink((400, 500), 512) == (400, 500)
    assert shrink((1000, 600), 0) == (1000, 600)
    assert shrink((600, 600), 512) == (512, 512)


def test_ade847_needs_the_whole_list(tool, tmp_path: Path) -> None:
    path = tmp_path / 'classes.json'
    for content, message in (
        (toy_layouts.ade_classes()[:-1], 'got 846 entries'),
        (['wall'], 'expected a list of entries'),
    ):
        path.write_text(json.dumps(content))
        with pytest.raises(SystemExit, match=message):
            tool('ade20k_847').read_classes(path)


def test_missing_sources_are_named(tool, tmp_path: Path) -> None:
    for name, what in (
        ('cityscapes', 'gtFine'),
        ('coco_stuff', 'the maps of COCO-Stuff'),
        ('pascal_context_59', 'trainval_merged.json'),
        ('pascal_context_459', 'labels.txt'),
    ):
        with pytest.raises(SystemExit, match=f'expected .*{what}'):
            tool(name).main(['--data-root', str(tmp_path)])


def test_finished_maps_are_not_made_again(tool, tmp_path: Path) -> None:
    root = toy_layouts.cityscapes(tmp_path)
    folder = root / 'cityscapes' / 'gtFine' / 'val' / 'lindau'
    done = folder / 'lindau_000002_000019_gtFine_labelTrainIds.png'
    write_labels(done, stripes(5, 5))
    tool('cityscapes').main(['--data-root', str(root)])
    assert row(done, 2) == [5, 5]
    assert not list(folder.glob('.*'))
