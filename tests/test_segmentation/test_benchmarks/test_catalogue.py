"""The table of benchmarks, the configs that repeat it, and the check of labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip('mmseg.datasets')

from mmengine.config import Config

from refineclip.segmentation.benchmarks import BENCHMARKS, GROUPS, get_benchmark, parse_benchmarks
from refineclip.segmentation.benchmarks.label_check import check_labels
from refineclip.segmentation.training_free.queries import make_queries, readable_name

from .. import toy_layouts
from ..toy_text import stripes, write_labels

pytestmark = pytest.mark.mm


def test_names_aliases_and_groups() -> None:
    assert get_benchmark('ade847').name == 'a847'
    names = [b.name for b in parse_benchmarks('voc20, ade150,voc20,cat-seg')]
    assert names == ['voc20', 'a150', 'a847', 'pc459', 'pc59', 'voc20b']
    assert len(parse_benchmarks('training-free')) == 8
    assert {name for group in GROUPS.values() for name in group} | {'coco-panoptic'} == set(
        BENCHMARKS
    )
    with pytest.raises(ValueError, match='expected a benchmark out of'):
        parse_benchmarks('a150,a848')
    with pytest.raises(ValueError, match='expected names of benchmarks'):
        parse_benchmarks(' , ')


@pytest.mark.parametrize(
    'name', [name for name, b in BENCHMARKS.items() if 'classes' in b.dataset.METAINFO]
)
def test_vocabulary_has_a_word_for_every_label(name: str) -> None:
    benchmark = BENCHMARKS[name]
    words = benchmark.vocabulary()
    assert len(words) == (59 if name == 'voc20b' else benchmark.num_labels)
    texts = make_queries(words).texts
    assert len(set(texts)) == len(texts) == len(words)
    assert not any('other' in text or text != text.strip() for text in texts)
    assert benchmark.has_background == ('background' in words)


@pytest.mark.parametrize(
    ('name', 'word'),
    [
        ('sky-other', 'sky'),
        ('door-stuff', 'door'),
        ('wall-brick', 'brick wall'),
        ('floor-other', 'floor'),
        ('window-blind', 'window blind'),
        ('water-other', 'water'),
        ('wall-other-merged', 'wall'),
        ('diningtable', 'dining table'),
        ('bed ', 'bed'),
        ('check-in-desk', 'check-in-desk'),
        ('traffic light', 'traffic light'),
    ],
)
def test_readable_names(name: str, word: str) -> None:
    assert readable_name(name) == word


def test_missing_data_are_named(tmp_path: Path) -> None:
    (tmp_path / 'VOCdevkit' / 'VOC2012' / 'JPEGImages').mkdir(parents=True)
    missing = [path.name for path in get_benchmark('voc21').missing(tmp_path)]
    assert missing == ['SegmentationClass', 'val.txt']
    with pytest.raises(FileNotFoundError, match=r'voc21: expected VOC21 .* unpack VOCtrainval'):
        get_benchmark('voc21').build(tmp_path)


def test_report_counts_and_judges(tmp_path: Path) -> None:
    report = check_labels(get_benchmark('voc20'), toy_layouts.voc2012(tmp_path))
    # Stripes of 12 columns, 40 rows: 0 (background, ignored here), k + 1, 255, 20.
    assert report.num_images == report.num_labelled == 3
    assert report.num_ignored == 3 * 2 * 12 * 40
    assert report.histogram[19] == 3 * 12 * 40
    assert report.histogram[:3].tolist() == [480, 480, 480]
    assert not report.is_complete
    text = report.text()
    assert 'PARTIAL: 3 images, published are 1,449' in text
    assert 'labels 0..19, 4 of 20 occur; 50.0% of the pixels ignored' in text
    assert 'aeroplane 1.7e-01' in text
    report.num_images = 1449
    assert report.is_complete


def test_report_names_what_is_broken(tmp_path: Path) -> None:
    root = toy_layouts.voc2012(tmp_path)
    folder = root / 'VOCdevkit' / 'VOC2012' / 'SegmentationClass'
    write_labels(folder / f'{toy_layouts.STEMS[0]}.png', stripes(0, 21))
    write_labels(folder / f'{toy_layouts.STEMS[1]}.png', np.uint8(0), size=(40, 48))
    (folder / f'{toy_layouts.STEMS[2]}.png').unlink()
    report = check_labels(get_benchmark('voc21'), root)
    assert report.num_labelled == 0
    assert report.verdict.startswith('BROKEN: 3 of 3 images')
    text = report.text(num_problems=2)
    assert 'got [21]' in text
    assert 'got 40 x 48 px' in text
    assert '... and 1 more' in text


@pytest.mark.parametrize('name', BENCHMARKS)
def test_configs_say_the_same_as_the_table(repo_root: Path, name: str) -> None:
    """A config must be readable by itself, so it repeats what the table says."""
    benchmark = BENCHMARKS[name]
    cfg = Config.fromfile(repo_root / 'configs' / '_base_' / 'datasets' / f'seg-{name}.py')
    dataset = cfg.test_dataloader.dataset.to_dict()
    pipeline = dataset.pop('pipeline')
    assert dataset == benchmark.dataset_cfg('data')
    assert pipeline[2] == benchmark.loader_cfg()
    assert cfg.test_evaluator.to_dict() == benchmark.evaluator_cfg()
    folder = repo_root / 'configs' / 'segmentation' / 'training-free'
    [single] = folder.glob(f'text-seg_openai-vit-b16_{name}-*.py')
    runtime = Config.fromfile(single, import_custom_modules=False)
    scale = runtime.benchmark_scales.get(name, (2048, 336))
    assert tuple(pipeline[1]['scale']) == tuple(scale)
    assert single.stem.endswith(f'-{scale[1]}')
