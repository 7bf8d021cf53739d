from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import HOOKS, METRICS
from mmengine.runner import Runner
from PIL import Image

from refineclip.datasets.coco_panoptic import CocoPanoptic
from refineclip.evaluation import (
    CLIPSELF,
    PanopticEvaluation,
    PanopticEvaluationDataset,
    RegionAccuracyMetric,
    SpatialAwarenessMetric,
    region_rules,
)
from refineclip.evaluation.encoders.references import ColourEncoder

from .toy_panoptic import PATCH, colour_texts, edit_json, preprocessor, write_coco

COLOUR = ColourEncoder(PATCH, (0.5,) * 3, (0.25,) * 3)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_coco(tmp_path / 'coco')


@pytest.fixture
def texts(tmp_path: Path) -> str:
    np.save(tmp_path / 'texts.npy', colour_texts().numpy())
    return str(tmp_path / 'texts.npy')


def measure(metric: Any, root: Path, resize: str, batch_size: int = 3) -> dict[str, float]:
    """Feed the colours of a data set to a metric, as a loop would."""
    dataset, canvas = PanopticEvaluationDataset(root), preprocessor(resize)
    metric.dataset_meta = dataset.metainfo
    for start in range(0, len(dataset), batch_size):
        indices = range(start, min(start + batch_size, len(dataset)))
        data = pseudo_collate([dataset[i] for i in indices])
        batch = canvas(data)['inputs']
        maps = COLOUR.dense(batch.images)
        samples = [dict(map=m, picture=p) for m, p in zip(maps, batch.pictures, strict=True)]
        metric.process(data, samples)
    return metric.evaluate(len(dataset))


@pytest.mark.parametrize(
    ('resize', 'protocol'), [('letterbox', 'clipself'), ('squash', 'clipself'), ('squash', 'ours')]
)
def test_metrics_equal_the_functions(root: Path, texts: str, resize: str, protocol: str) -> None:
    evaluation = PanopticEvaluation(
        CocoPanoptic(root), preprocessor(resize), PATCH, rules=region_rules(protocol)
    )
    maps = evaluation.maps(COLOUR)
    expected = evaluation.region_scores(maps, colour_texts())
    found = measure(RegionAccuracyMetric(texts, protocol=protocol), root, resize)
    assert found == {f'regions/{k}': pytest.approx(s.value) for k, s in expected.items()}
    assert found['regions/masks_top1'] == 1
    chosen = ('auc', 'imk', 'gk', 'knn')
    spatial = evaluation.spatial_scores(maps, chosen)
    found = measure(SpatialAwarenessMetric(chosen), root, resize)
    assert found == {f'spatial/{k}': pytest.approx(s.value) for k, s in spatial.items()}


def test_vocabulary_and_rules_reach_the_scores(root: Path, texts: str) -> None:
    metric = RegionAccuracyMetric(texts, classes=['car'], topk=(1,), area_px=(100, 1000))
    found = measure(metric, root, 'letterbox')
    assert found['regions/masks_top1'] == 1  # one class to choose from
    with pytest.raises(ValueError, match='segments that count as regions, got none in 4 images'):
        measure(RegionAccuracyMetric(texts, min_area=0.99), root, 'letterbox')


def test_protocol_of_the_metric(root: Path, texts: str, monkeypatch: pytest.MonkeyPatch) -> None:
    assert RegionAccuracyMetric(texts).rules == CLIPSELF
    said: list[str] = []
    monkeypatch.setattr(
        'refineclip.evaluation.panoptic_metrics.print_log', lambda text, logger: said.append(text)
    )
    measure(RegionAccuracyMetric(texts, protocol='ours', min_area=0.01), root, 'letterbox')
    assert said == ['regions: protocol ours, with min area 0.01']
    text = dict(model='ViT-B-16', templates='photo')
    assert RegionAccuracyMetric(text=text).rules.describe() == 'clipself, with templates photo'
    with pytest.raises(ValueError, match=r"protocol: expected one of .*got 'coco'"):
        RegionAccuracyMetric(texts, protocol='coco')


def test_spatial_measures_of_the_first_images(root: Path) -> None:
    def tokens(limit: int | None) -> list[int]:
        metric = SpatialAwarenessMetric(['auc'], limit=limit)
        kept: list[int] = []
        metric.compute_metrics = lambda rows: kept.extend(row[0] for row in rows) or {}
        measure(metric, root, 'letterbox')
        return kept

    assert tokens(None) == [0, 1, 2, 3]
    assert tokens(2) == [0, 1]
    with pytest.raises(ValueError, match='limit: expected one or more'):
        SpatialAwarenessMetric(['auc'], limit=0)


def test_wrong_input_of_metrics(root: Path, texts: str) -> None:
    with pytest.raises(ValueError, match='expected text_embeddings=FILE or text=dict'):
        RegionAccuracyMetric()
    with pytest.raises(FileNotFoundError, match=r'none\.npy'):
        RegionAccuracyMetric('none.npy')
    with pytest.raises(ValueError, match='normalize_tokens=False or None with a text_head'):
        RegionAccuracyMetric(texts, text_head='head.safetensors', normalize_tokens=True)
    with pytest.raises(ValueError, match='measures: expected some of'):
        SpatialAwarenessMetric(['miou'])
    metric = SpatialAwarenessMetric()
    with pytest.raises(TypeError, match='expected dense maps of RefinerTraining'):
        metric.process({'inputs': []}, [torch.zeros(4, 2, 2)])
    dataset = PanopticEvaluationDataset(root, limit=1)
    bad = dict(map=torch.full((4, 8, 8), float('nan')), picture=None)
    with pytest.raises(ValueError, match=r'NaN or infinity for .*000\.png'):
        metric.process(pseudo_collate([dataset[0]]), [bad])


def test_wrong_input_of_the_dataset(root: Path) -> None:
    with pytest.raises(ValueError, match='limit: expected one or more'):
        PanopticEvaluationDataset(root, limit=0)
    Image.new('RGB', (50, 48)).save(root / 'val2017/000.png')
    with pytest.raises(ValueError, match='expected 64 x 48 px as annotated, got 50 x 48'):
        PanopticEvaluationDataset(root)[0]
    content, write = edit_json(root)
    content['annotations'] = []
    write()
    with pytest.raises(ValueError, match='got a panoptic data set without any'):
        PanopticEvaluationDataset(root)


def test_published_preset_measures_as_published(repo_root: Path) -> None:
    folder = repo_root / 'configs/distill/r-sc-clipself'
    cfg = Config.fromfile(folder / 'r-sc-clipself_eva02-vit-b16_8xb2-amp-6e_coco-1024-val.py')
    assert cfg.val_dataloader.dataset.limit is None
    assert cfg.test_dataloader.dataset.limit is None
    assert cfg.train_cfg.val_interval == 1
    spatial, regions = cfg.val_evaluator
    assert (spatial.limit, regions.protocol) == (100, 'clipself')
    rules = METRICS.build(regions).rules
    assert rules == CLIPSELF
    assert rules.canvas_side(16) == cfg.model.data_preprocessor.image_size
    hooks = [HOOKS.build(hook) for hook in cfg.custom_hooks if hook['type'] == 'WeightEnsembleHook']
    assert [(hook.alpha, hook.validate) for hook in hooks] == [(0.7, 'blended')]


def test_curves_of_a_training_run(root: Path, repo_root: Path, tmp_path: Path) -> None:
    """Two iterations of the toy config with a validation after each; then a test of the result."""
    cfg = Config.fromfile(repo_root / 'configs/distill/toy/r-sc-v_vit-toy_1xb2-4i_photos-val.py')
    text = dict(context_length=16, vocab_size=49408, width=16, heads=2, layers=1)
    tower = dict(cfg.model.student.model, text_cfg=text)
    cfg.merge_from_dict(
        {
            'train_dataloader.dataset.data_root': str(root / 'val2017'),
            'val_dataloader.dataset.data_root': str(root),
            'val_dataloader.dataset.limit': None,
            'test_dataloader.dataset.data_root': str(root),
            'train_cfg.max_iters': 2,
            'train_cfg.val_interval': 1,
            'work_dir': str(tmp_path / 'run'),
            'log_level': 'WARNING',
            'custom_hooks': [],
        }
    )
    measured = ('auc', 'imk', 'knn')
    assert cfg.val_evaluator[0].measures == measured
    cfg.val_evaluator.append(
        dict(type='RegionAccuracyMetric', text=dict(model=tower, templates='photo'), topk=(1,))
    )
    runner = Runner.from_cfg(cfg)
    runner.train()
    path = next((tmp_path / 'run').rglob('vis_data/scalars.json'))
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    curves = [row for row in rows if 'spatial/auc' in row]
    assert [row['step'] for row in curves] == [1, 2]
    for row in curves:
        for name in (*(f'spatial/{m}' for m in measured), 'regions/boxes_things_class_top1'):
            assert math.isfinite(row[name])
            assert 0 <= row[name] <= 1
    tested = runner.test()
    assert tested['spatial/auc'] == pytest.approx(curves[-1]['spatial/auc'])
    assert set(tested) == {f'spatial/{m}' for m in ('auc', 'imk', 'gk', 'knn', 'ridge')}
