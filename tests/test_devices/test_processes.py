"""Two processes: one answer where they must agree, draws of their own where they must not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import multiprocessing

from refineclip.evaluation import PanopticEvaluationDataset, SpatialAwarenessMetric
from tests.test_evaluation.toy_panoptic import write_coco

from .processes import both, process


@pytest.fixture(scope='module')
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp('processes')


@pytest.fixture(scope='module')
def seen(root: Path) -> list[dict[str, Any]]:
    write_coco(root / 'coco')
    multiprocessing.spawn(both, (root,), nprocs=2)
    return [torch.load(root / f'{rank}.pt', weights_only=True) for rank in range(2)]


def test_the_first_process_answers_for_all(seen: list[dict[str, Any]]) -> None:
    assert [one['answer'] for one in seen] == ['made by 0'] * 2
    assert [one['refusal'] for one in seen] == ['no such tower'] * 2


def test_cluster_centres_are_equal(seen: list[dict[str, Any]]) -> None:
    assert torch.equal(*(one['centres'] for one in seen))


@pytest.mark.parametrize('what', ['boxes', 'draw'])
def test_draws_differ(seen: list[dict[str, Any]], what: str) -> None:
    first, second = (one[what] for one in seen)
    assert first.shape == second.shape
    assert not torch.equal(first, second)


def test_spatial_measures_equal_one_process(seen: list[dict[str, Any]], root: Path) -> None:
    dataset = PanopticEvaluationDataset(root / 'coco')
    metric = SpatialAwarenessMetric(['imk', 'auc', 'knn'])
    metric.dataset_meta = dataset.metainfo
    for index in range(len(dataset)):
        process(metric, dataset, index)
    alone = metric.evaluate(len(dataset))
    assert list(alone) == ['spatial/imk', 'spatial/auc', 'spatial/knn']
    assert [one['spatial'] for one in seen] == [alone] * 2
