"""The data sets that mmseg lacks, and the metric that scores a part of a vocabulary."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip('mmseg.datasets')

from mmengine.registry import DATASETS, METRICS, DefaultScope
from mmseg.evaluation import IoUMetric

from refineclip.datasets.microworld import write_split
from refineclip.segmentation import LoadSegLabels, VocabularyIoUMetric, get_benchmark
from refineclip.segmentation.benchmarks.datasets import read_context_labels

from .. import toy_layouts
from ..toy_text import stripes, write_image, write_labels

pytestmark = pytest.mark.mm


def values(name: str, root: Path, index: int = 0) -> list[int]:
    """Labels of an image as the benchmark's own loader reads them, left to right."""
    benchmark = get_benchmark(name)
    loader = {k: v for k, v in benchmark.loader_cfg().items() if k != 'type'}
    item = benchmark.build(root, [LoadSegLabels(**loader)])[index]
    row = item['gt_seg_map'][0]
    return row[np.flatnonzero(np.diff(row, prepend=-1))].tolist()


def test_four_readings_of_voc(tmp_path: Path) -> None:
    root = toy_layouts.voc2012(tmp_path)  # stripes 0, 1, 255, 20
    assert values('voc21', root) == [0, 1, 255, 20]
    assert values('training-free/voc20', root) == [255, 0, 255, 19]
    assert values('cat-seg/voc20', root) == [255, 0, 255, 18]  # SegmentationClassAug has 19
    assert values('voc20b', root) == [20, 0, 255, 18]
    assert len(get_benchmark('cat-seg/voc20').build(root)) == 3


def test_voc20b_names_context_after_voc() -> None:
    names = get_benchmark('voc20b').vocabulary()
    assert names[:20] == get_benchmark('cat-seg/voc20').vocabulary()
    assert len(names) == 59
    assert set(names) == set(get_benchmark('cat-seg/pc59').vocabulary())


def test_ade150(tmp_path: Path) -> None:
    root = toy_layouts.ade150(tmp_path)
    assert values('cat-seg/a150', root, 1) == [255, 1, 149]


def test_full_ade_reads_names_and_sixteen_bits(tmp_path: Path) -> None:
    base = tmp_path / 'ADE20K_2021_17_01'
    write_image(base / 'images_detectron2' / 'validation' / 'ADE_val_00000001.jpg')
    labels = stripes(0, 300, 846, 65535, dtype=np.uint16)
    write_labels(base / 'annotations_detectron2' / 'validation' / 'ADE_val_00000001.tif', labels)
    with pytest.raises(FileNotFoundError, match=r'got no .*classes_847.json; make the labels with'):
        get_benchmark('a847').build(tmp_path)
    names = [f'n{index}' for index in range(847)]
    (base / 'classes_847.json').write_text(json.dumps(names[:-1]))
    with pytest.raises(ValueError, match='expected 847 class names, got 846'):
        get_benchmark('a847').build(tmp_path)
    (base / 'classes_847.json').write_text(json.dumps(names))
    assert values('a847', tmp_path) == [0, 300, 846, 65535]
    assert get_benchmark('a847').vocabulary(tmp_path) == tuple(names)


def test_full_ade_takes_equal_names_by_position(tmp_path: Path) -> None:
    names = get_benchmark('a847').vocabulary(toy_layouts.ade847(tmp_path))
    titles = [name.split(';')[0] for name in names]
    assert len(names) == 847
    assert len(set(titles)) == 847 - 10  # nine repeats, one of them of three
    assert [index for index, title in enumerate(titles) if title == 'bag'] == [10, 500, 700]


def test_context459_lists_only_labelled_images(tmp_path: Path) -> None:
    root = toy_layouts.context459(tmp_path)
    base = root / 'VOCdevkit' / 'VOC2010'
    target = base / 'annotations_detectron2' / 'pc459_val' / f'{toy_layouts.STEMS[1]}.tif'
    write_labels(target, stripes(0, 255, 458, 65535, dtype=np.uint16))
    assert len(get_benchmark('pc459').build(root)) == 1
    assert values('pc459', root) == [0, 255, 458, 65535]
    assert get_benchmark('pc459').vocabulary(root)[1] == 'aeroplane'
    (base / 'labels.txt').write_text('0: empty\n1: a\n3: b\n')
    with pytest.raises(ValueError, match=r'expected lines "1: name".*got .*\[1, 3\]'):
        read_context_labels(base / 'labels.txt')


def test_panoptic_layout_of_the_microworld(tmp_path: Path) -> None:
    write_split(tmp_path / 'coco', 'val2017', 2)
    dataset = get_benchmark('coco-panoptic').build(tmp_path, [LoadSegLabels()])
    labels = dataset[0]['gt_seg_map']
    image = dataset.panoptic[0]
    ids = image.read_ids()
    for segment in image.segments:
        assert np.unique(labels[ids == segment.id]).tolist() == [segment.category]
    assert dataset.metainfo['classes'] == dataset.panoptic.classes


def test_registered_under_mmseg(tmp_path: Path) -> None:
    root = toy_layouts.voc2012(tmp_path)
    with DefaultScope.overwrite_default_scope('mmseg'):
        dataset = DATASETS.build(get_benchmark('cat-seg/voc20').dataset_cfg(root))
        metric = METRICS.build(get_benchmark('cat-seg/voc20').evaluator_cfg())
    assert len(dataset) == 3
    assert isinstance(metric, VocabularyIoUMetric)


def score(metric: IoUMetric, predicted: list, truth: list, classes: int) -> dict:
    metric.dataset_meta = dict(classes=[f'c{i}' for i in range(classes)])
    sample = dict(
        pred_sem_seg=dict(data=torch.tensor([predicted])),
        gt_sem_seg=dict(data=torch.tensor([truth])),
    )
    metric.process({}, [sample])
    return metric.evaluate(1)


def test_metric_equals_mmseg_and_keeps_classes() -> None:
    predicted, truth = [[0, 1, 1, 2]], [[0, 1, 2, 255]]
    ours = VocabularyIoUMetric()
    found = score(ours, predicted, truth, 4)
    assert found.pop('mIoU_mmseg') == found['mIoU']
    assert found.pop('mIoU_labels') == found['mIoU']  # here all that is predicted is there
    assert found == score(IoUMetric(), predicted, truth, 4)
    # c0 1/1; c1 1 of 2 predicted and 1 there; c2 0 of 1 (the other is ignored); c3 nowhere.
    assert ours.class_iou[:3] == [100.0, 50.0, 0.0]
    assert np.isnan(ours.class_iou[3])


def test_two_averages_of_a_class_that_is_predicted_and_not_there() -> None:
    """Labels: 0 0 1 1; predictions 0 2 1 1. IoU 1/2, 1, 0; class 3 is nowhere.

    mmseg: (50 + 100 + 0) / 3. detectron2: (50 + 100) / 2, class 2 has no label.
    """
    for average, expected in (('mmseg', 50.0), ('labels', 75.0)):
        metric = VocabularyIoUMetric(average=average, groups=dict(novel=['c1', 'c2']))
        result = score(metric, [[0, 2, 1, 1]], [[0, 0, 1, 1]], 4)
        assert result['mIoU'] == expected
        assert (result['mIoU_mmseg'], result['mIoU_labels']) == (50.0, 75.0)
        # The groups go along: (100 + 0) / 2, or class 1 alone.
        assert result['mIoU_novel'] == {'mmseg': 50.0, 'labels': 100.0}[average]
        assert metric.class_iou[:3] == [50.0, 100.0, 0.0]


def test_groups_of_equal_names_do_not_collapse() -> None:
    metric = VocabularyIoUMetric(groups=dict(bags=['bag']))
    metric.dataset_meta = dict(classes=['bag', 'pot', 'bag'])
    sample = dict(
        pred_sem_seg=dict(data=torch.tensor([[[0, 1, 1, 2]]])),
        gt_sem_seg=dict(data=torch.tensor([[[0, 1, 2, 2]]])),
    )
    metric.process({}, [sample])
    # bag 100 and 50, not one of them.
    assert metric.evaluate(1)['mIoU_bags'] == 75.0


def test_wrong_averages() -> None:
    with pytest.raises(ValueError, match=r"average: expected one of \['mmseg', 'labels'\]"):
        VocabularyIoUMetric(average='all')
    with pytest.raises(ValueError, match=r"groups: expected other names .* got \['labels'\]"):
        VocabularyIoUMetric(groups=dict(labels=['c0']))


def test_metric_means_of_groups() -> None:
    metric = VocabularyIoUMetric(groups=dict(seen=['c0', 'c3'], novel=['c1', 'c2']))
    result = score(metric, [[0, 1, 1, 2]], [[0, 1, 2, 255]], 4)
    # c3 is nowhere and does not count.
    assert (result['mIoU_seen'], result['mIoU_novel']) == (100.0, 25.0)
    for members in (['c0', 'zebra'], []):
        with pytest.raises(ValueError, match=r"groups\['novel'\]: expected classes"):
            VocabularyIoUMetric(groups=dict(novel=members)).dataset_meta = dict(classes=['c0'])


def test_metric_takes_other_words_for_background() -> None:
    # Labels 0, 1 and background 2; of five words, 3 and 4 collapse into it.
    metric = VocabularyIoUMetric(num_classes=3)
    result = score(metric, [[0, 1, 3, 4, 2, 4]], [[0, 1, 2, 2, 2, 1]], 5)
    # Class 1: 1 of 2 there, background: 3 of 4 in the union.
    assert metric.class_iou == [100.0, 50.0, 75.0]
    assert result['mIoU'] == 75.0
    assert metric.dataset_meta['classes'] == ('c0', 'c1', 'background')
