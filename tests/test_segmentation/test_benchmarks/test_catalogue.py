"""The table of benchmarks, the configs that repeat it, and the check of labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip('mmseg.datasets')

from mmengine.config import Config

from refineclip.encoders.text.queries import make_queries, readable_name
from refineclip.segmentation.benchmarks import BENCHMARKS, get_benchmark, parse_benchmarks
from refineclip.segmentation.benchmarks.label_check import check_labels

from .. import toy_layouts
from ..toy_text import stripes, write_labels

pytestmark = pytest.mark.mm


def keys(text: str, protocol: str | None = None) -> list[str]:
    return [benchmark.key for benchmark in parse_benchmarks(text, protocol)]


def test_names_aliases_and_tables() -> None:
    assert get_benchmark('ade847').name == 'a847'
    assert keys('training-free') == [
        f'training-free/{name}'
        for name in ('voc21', 'pc60', 'coco-object', 'voc20', 'cityscapes', 'pc59', 'a150')
    ] + ['training-free/coco-stuff']
    assert keys('cat-seg') == [
        f'cat-seg/{name}' for name in ('a847', 'pc459', 'a150', 'pc59', 'voc20', 'voc20b')
    ]
    assert len(BENCHMARKS) == 15


def test_protocol_decides_names_of_both_tables() -> None:
    text = 'voc20, ade150,voc20,voc21,coco-panoptic'
    for protocol in ('cat-seg', 'training-free'):
        assert keys(text, protocol) == [
            *(f'{protocol}/voc20', f'{protocol}/a150', 'training-free/voc21', 'ours/coco-panoptic')
        ]
    assert keys('pc59') == ['training-free/pc59', 'cat-seg/pc59']
    assert keys('cat-seg/pc59', 'training-free') == ['cat-seg/pc59']
    with pytest.raises(
        ValueError, match=r"expected one of \['training-free/a150', 'cat-seg/a150'\]"
    ):
        get_benchmark('a150')


def test_tables_average_as_their_evaluators() -> None:
    averages = {one.protocol: one.evaluator_cfg().get('average') for one in BENCHMARKS.values()}
    assert averages == {'training-free': None, 'cat-seg': 'labels', 'ours': None}  # None: mmseg's


def test_voc_labels_of_each_table() -> None:
    """CAT-Seg's prepare_voc.py reads SegmentationClassAug, SCLIP's configs SegmentationClass."""
    folders = {
        key: one.data_prefix['seg_map_path'] for key, one in BENCHMARKS.items() if '/voc' in key
    }
    assert folders == {
        'training-free/voc21': 'SegmentationClass',
        'training-free/voc20': 'SegmentationClass',
        'cat-seg/voc20': 'SegmentationClassAug',
        'cat-seg/voc20b': 'SegmentationClassAug',
    }


def test_unknown_names() -> None:
    with pytest.raises(ValueError, match='expected a benchmark out of'):
        parse_benchmarks('a150,a848')
    with pytest.raises(ValueError, match='expected names of benchmarks'):
        parse_benchmarks(' , ')


@pytest.mark.parametrize(
    'key', [key for key, b in BENCHMARKS.items() if 'classes' in b.dataset.METAINFO]
)
def test_vocabulary_has_a_word_for_every_label(key: str) -> None:
    benchmark = BENCHMARKS[key]
    words = benchmark.vocabulary()
    assert len(words) == (59 if benchmark.name == 'voc20b' else benchmark.num_labels)
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
        # Nobody's but the user's own.
        *((name, name) for name in ('ceiling-fan', 'floor-lamp', 'wall-clock', 'window-cleaner')),
        *((name, name) for name in ('wall-mounted cabinet', 'food-stuff', 'Wall-E')),
        *((name, name) for name in ('soft-other', 'wall-paper-merged', 'big_car_front')),
    ],
)
def test_readable_names(name: str, word: str) -> None:
    assert readable_name(name) == word


CONTEXT_59 = """aeroplane bag bed bedclothes bench bicycle bird boat book bottle building bus
cabinet car cat ceiling chair cloth computer cow cup curtain dog door fence floor flower food grass
ground horse keyboard light motorbike mountain mouse person plate platform pottedplant road rock
sheep shelves sidewalk sign sky snow sofa diningtable track train tree truck tvmonitor wall water
window wood"""


def test_context_59_in_the_words_of_each_table() -> None:
    """CAT-Seg's pc59.json, read by hand; SCLIP's cls_context59.txt says 'table'."""
    words = tuple(CONTEXT_59.split())
    assert get_benchmark('cat-seg/pc59').vocabulary() == words
    free = tuple('table' if word == 'diningtable' else word for word in words)
    assert get_benchmark('training-free/pc59').vocabulary() == free
    # voc20b.json has the same 59 words, VOC's 20 first.
    assert sorted(get_benchmark('voc20b').vocabulary()) == sorted(words)


def test_missing_data_are_named(tmp_path: Path) -> None:
    (tmp_path / 'VOCdevkit' / 'VOC2012' / 'JPEGImages').mkdir(parents=True)
    missing = [path.name for path in get_benchmark('voc21').missing(tmp_path)]
    assert missing == ['SegmentationClass', 'val.txt']
    with pytest.raises(FileNotFoundError, match=r'voc21: expected VOC21 .* unpack VOCtrainval'):
        get_benchmark('voc21').build(tmp_path)


def test_cat_seg_takes_no_other_voc_labels(tmp_path: Path) -> None:
    """Where only VOC's own labels are, CAT-Seg's column stays empty."""
    root = toy_layouts.voc2012(tmp_path)
    (root / 'VOCdevkit' / 'VOC2012' / 'SegmentationClassAug').rename(tmp_path / 'elsewhere')
    with pytest.raises(FileNotFoundError, match=r'unpack .* and SegmentationClassAug\.zip'):
        get_benchmark('cat-seg/voc20').build(root)
    assert len(get_benchmark('training-free/voc20').build(root)) == 3


def test_report_counts_and_judges(tmp_path: Path) -> None:
    report = check_labels(get_benchmark('training-free/voc20'), toy_layouts.voc2012(tmp_path))
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


SINGLE = [key for key in BENCHMARKS if key not in ('cat-seg/a150', 'cat-seg/pc59', 'cat-seg/voc20')]
# SCLIP's released configs; all others have 336 px, scale 40 and no rule about areas.
SIZES = {'cityscapes': 560, 'coco-stuff': 448}
THRESHOLDS = {
    'voc21': dict(logit_scale=65.0, area_thd=0.1),
    'pc60': dict(logit_scale=50.0),
    'coco-object': dict(logit_scale=50.0),
}


@pytest.mark.parametrize('key', SINGLE)
def test_configs_say_the_same_as_the_table(repo_root: Path, key: str) -> None:
    """A config must be readable by itself, so it repeats what the table says."""
    benchmark = BENCHMARKS[key]
    name = benchmark.name
    cfg = Config.fromfile(repo_root / 'configs' / '_base_' / 'datasets' / f'seg-{name}.py')
    dataset = cfg.test_dataloader.dataset.to_dict()
    pipeline = dataset.pop('pipeline')
    assert dataset == benchmark.dataset_cfg('data')
    assert pipeline[2] == benchmark.loader_cfg()
    assert cfg.test_evaluator.to_dict() == benchmark.evaluator_cfg()
    size = SIZES.get(name, 336)
    assert tuple(pipeline[1]['scale']) == (2048, size)
    folder = repo_root / 'configs' / 'segmentation' / 'training-free'
    [single] = folder.glob(f'text-seg_openai-vit-b16_{name}-*.py')
    assert single.stem.endswith(f'-{size}')
    single = Config.fromfile(single, import_custom_modules=False)
    assert tuple(single.benchmark_scales.get(name, (2048, 336))) == (2048, size)
    usual = dict(prob_thd=0.1, logit_scale=40.0, area_thd=0.0)
    assert single.benchmark_thresholds.get(name, {}) == THRESHOLDS.get(name, {})
    assert {k: single.model.get(k, 0.0) for k in usual} == {**usual, **THRESHOLDS.get(name, {})}
