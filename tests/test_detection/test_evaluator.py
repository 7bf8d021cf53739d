"""faster-coco-eval counts what pycocotools and lvis count, under the keys of mmdet's metrics."""

from __future__ import annotations

import copy
import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tests.test_detection.toy_annotations import annotations, coco_categories, write_json

pytestmark = pytest.mark.mm

NAMES = ('person', 'car', 'dog', 'cat', 'cup')
METAINFO = dict(classes=NAMES, base_classes=NAMES[:3], novel_classes=NAMES[3:])
FREQUENCIES = 'ffcrr'
needs_faster = pytest.mark.skipif(
    importlib.util.find_spec('faster_coco_eval') is None, reason='needs faster-coco-eval'
)


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Lines of the log."""
    from refineclip.detection import ov_metrics

    lines: list[str] = []
    monkeypatch.setattr(ov_metrics, 'print_log', lambda text, *_, **__: lines.append(text))
    return lines


def truth(lvis: bool = False) -> dict[str, Any]:
    categories = coco_categories(NAMES)
    for category, frequency in zip(categories, FREQUENCIES, strict=True):
        category['frequency'] = frequency
    return annotations(categories, num_images=12, per_image=7, lvis=lvis)


def samples(content: dict[str, Any], seed: int = 1, masks: bool = False) -> list[dict[str, Any]]:
    """Predictions near the truth: some shifted, some of the wrong class, some twice."""
    rng = np.random.default_rng(seed)
    label_of = {category['id']: i for i, category in enumerate(content['categories'])}
    result = []
    for image in content['images']:
        rows = [row for row in content['annotations'] if row['image_id'] == image['id']] * 2
        boxes = np.array([row['bbox'] for row in rows], float)
        boxes[:, :2] += rng.integers(-4, 5, (len(rows), 2))
        boxes[:, 2:] += boxes[:, :2]
        labels = np.array([label_of[row['category_id']] for row in rows])
        wrong = rng.random(len(rows)) < 0.3
        labels[wrong] = rng.integers(0, len(NAMES), wrong.sum())
        found = dict(
            bboxes=torch.tensor(boxes, dtype=torch.float32),
            scores=torch.tensor(rng.random(len(rows)), dtype=torch.float32),
            labels=torch.tensor(labels),
        )
        shape = (image['height'], image['width'])
        if masks:
            found['masks'] = torch.stack([mask(box, shape) for box in boxes.round().astype(int)])
        result.append(dict(img_id=image['id'], ori_shape=shape, pred_instances=found))
    return result


def mask(box: np.ndarray, shape: tuple[int, int]) -> torch.Tensor:
    filled = torch.zeros(shape, dtype=torch.bool)
    x1, y1, x2, y2 = box.clip(0)
    filled[y1:y2, x1:x2] = True
    return filled


def measure(metric: Any, predictions: list[dict[str, Any]]) -> dict[str, float]:
    metric.dataset_meta = METAINFO
    metric.process({}, predictions)
    return metric.evaluate(len(predictions))


@needs_faster
@pytest.mark.parametrize('kind', ['bbox', 'segm'])
def test_coco_equals_mmdets_own_metric(tmp_path: Path, kind: str) -> None:
    from mmdet.evaluation import OVCocoMetric

    from refineclip.detection.ov_metrics import FastOVCocoMetric

    content = truth()
    ann_file = str(write_json(tmp_path / 'val.json', content))
    predictions = samples(content, masks=kind == 'segm')
    metric = FastOVCocoMetric(ann_file=ann_file, metric=kind)
    assert metric.faster
    ours = measure(metric, predictions)
    theirs = measure(OVCocoMetric(ann_file=ann_file, metric=kind), predictions)
    assert ours == pytest.approx(theirs, abs=1e-6)
    assert 0.1 < ours['coco/novel_ap50'] < 0.9
    assert ours['coco/novel_ap50'] != pytest.approx(ours['coco/base_ap50'], abs=1e-3)


@needs_faster
def test_base_and_novel_are_told_apart_when_the_file_is_not_sorted_by_id(tmp_path: Path) -> None:
    # Labels count in the order of the file; pycocotools sorts the ids before it counts.
    from refineclip.detection.ov_metrics import FastOVCocoMetric

    content = truth()
    content['categories'].reverse()
    ann_file = str(write_json(tmp_path / 'val.json', content))
    only_base = []
    for image in content['images']:
        rows = [row for row in content['annotations'] if row['image_id'] == image['id']]
        rows = [row for row in rows if row['category_id'] in (1, 4, 7)]
        boxes = torch.tensor([row['bbox'] for row in rows], dtype=torch.float32)
        boxes[:, 2:] += boxes[:, :2]
        found = dict(
            bboxes=boxes,
            scores=torch.ones(len(rows)),
            labels=torch.tensor([4 - (row['category_id'] - 1) // 3 for row in rows]),
        )
        only_base.append(dict(img_id=image['id'], ori_shape=(48, 64), pred_instances=found))
    metric = FastOVCocoMetric(ann_file=ann_file)
    metric.dataset_meta = dict(METAINFO, classes=NAMES[::-1])
    metric.process({}, only_base)
    found = metric.evaluate(len(only_base))
    assert found['coco/base_ap50'] == pytest.approx(1)
    assert found['coco/novel_ap50'] == pytest.approx(0)
    assert found['coco/bbox_mAP_50'] == pytest.approx(3 / 5, abs=1e-3)


@needs_faster
@pytest.mark.parametrize('kind', ['bbox', 'segm'])
def test_lvis_equals_the_lvis_package(
    tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip('lvis')
    from mmdet.evaluation import LVISMetric

    from refineclip.detection.ov_metrics import FastLVISMetric

    content = truth(lvis=True)
    ann_file = str(write_json(tmp_path / 'val.json', content))
    predictions = samples(content, masks=kind == 'segm')
    ours = measure(FastLVISMetric(ann_file=ann_file, metric=kind), predictions)
    # What the package of PyPI misses in a current numpy.
    monkeypatch.setattr(np, 'float', float, raising=False)
    theirs = measure(LVISMetric(ann_file=ann_file, metric=kind), predictions)
    assert ours == pytest.approx(theirs, abs=1e-6)
    assert 0.05 < ours[f'lvis/{kind}_APr'] < 0.95


@needs_faster
@pytest.mark.parametrize('kind', ['FastOVCocoMetric', 'FastLVISMetric'])
def test_every_epoch_counts_anew(tmp_path: Path, kind: str) -> None:
    """Evaluators write into the annotations that they are given; the next epoch has the same."""
    pytest.importorskip('lvis')
    from refineclip.detection import ov_metrics

    content = truth(lvis=kind == 'FastLVISMetric')
    ann_file = str(write_json(tmp_path / 'val.json', content))
    metric = getattr(ov_metrics, kind)(ann_file=ann_file, metric=['bbox', 'segm'])
    first = measure(metric, samples(content, masks=True))
    measure(metric, samples(content, seed=2, masks=True))
    assert measure(metric, samples(content, masks=True)) == first
    apart = [getattr(ov_metrics, kind)(ann_file=ann_file, metric=each) for each in ('bbox', 'segm')]
    alone = [measure(each, samples(content, masks=True)) for each in apart]
    assert first == {**alone[0], **alone[1]}


@needs_faster
def test_every_precision_of_lvis_is_that_of_the_lvis_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unrounded: threshold by recall by category by area."""
    lvis = pytest.importorskip('lvis')
    from refineclip.detection.ov_metrics import evaluate_faster

    monkeypatch.setattr(np, 'float', float, raising=False)
    content = truth(lvis=True)
    rows = []
    for sample in samples(content):
        found = sample['pred_instances']
        for box, score, label in zip(*(found[k].tolist() for k in found), strict=True):
            x1, y1, x2, y2 = box
            row = dict(image_id=sample['img_id'], bbox=[x1, y1, x2 - x1, y2 - y1])
            rows.append({**row, 'score': score, 'category_id': 3 * label + 1})
    truths = lvis.LVIS(str(write_json(tmp_path / 'val.json', content)))
    reference = lvis.LVISEval(truths, lvis.LVISResults(truths, copy.deepcopy(rows)), 'bbox')
    reference.run()
    ours = evaluate_faster(
        truths.dataset,
        copy.deepcopy(rows),
        'bbox',
        truths.get_cat_ids(),
        [300],
        np.linspace(0.5, 0.95, 10),
        lvis_style=True,
    )
    expected = reference.eval['precision']
    assert expected.std() > 0.1
    np.testing.assert_allclose(ours.eval['precision'][..., 0], expected, atol=1e-6)


@needs_faster
def test_lvis_counts_at_most_300_boxes_per_image() -> None:
    from refineclip.detection.ov_metrics import best_per_image

    rows = [dict(image_id=i % 2, score=i / 1000, category_id=1) for i in range(1000)]
    kept = best_per_image(rows, 300)
    assert len(kept) == 600
    assert min(row['score'] for row in kept) == pytest.approx(0.4)


def test_reference_is_the_parent(tmp_path: Path) -> None:
    from mmdet.evaluation import OVCocoMetric

    from refineclip.detection.ov_metrics import FastOVCocoMetric

    content = truth()
    ann_file = str(write_json(tmp_path / 'val.json', content))
    metric = FastOVCocoMetric(ann_file=ann_file, evaluator='reference')
    assert not metric.faster
    theirs = measure(OVCocoMetric(ann_file=ann_file), samples(content))
    assert measure(metric, samples(content)) == theirs


@needs_faster
def test_options_that_only_the_parent_knows_are_left_to_it(tmp_path: Path, log: list[str]) -> None:
    from refineclip.detection.ov_metrics import FastOVCocoMetric

    content = truth()
    ann_file = str(write_json(tmp_path / 'val.json', content))
    metric = FastOVCocoMetric(ann_file=ann_file, classwise=True)
    assert not metric.faster
    assert 'classwise' in log[0]
    assert 'coco/cup_precision' in measure(metric, samples(content))


def test_faster_asked_for_but_not_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    from refineclip.detection.ov_metrics import FastOVCocoMetric

    monkeypatch.setattr(importlib.util, 'find_spec', lambda name: None)
    assert not FastOVCocoMetric().faster
    with pytest.raises(ModuleNotFoundError, match='pip install faster-coco-eval'):
        FastOVCocoMetric(evaluator='faster-coco-eval')
    with pytest.raises(ValueError, match=r"expected one of .*'auto'.*got 'fast'"):
        FastOVCocoMetric(evaluator='fast')


def test_lvis_without_an_evaluator_fails_before_it_tests(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip('lvis')
    from refineclip.detection import ov_metrics

    monkeypatch.setattr(ov_metrics, 'reference_lvis_works', lambda: False)
    with pytest.raises(RuntimeError, match=r'uses np\.float.*pip install faster-coco-eval'):
        ov_metrics.FastLVISMetric(evaluator='reference')


@needs_faster
def test_no_prediction_at_all(tmp_path: Path) -> None:
    from refineclip.detection.ov_metrics import FastOVCocoMetric

    content = truth()
    ann_file = str(write_json(tmp_path / 'val.json', content))
    predictions = samples(content)
    for sample in predictions:
        sample['pred_instances'] = {k: v[:0] for k, v in sample['pred_instances'].items()}
    assert measure(FastOVCocoMetric(ann_file=ann_file), predictions) == {}
