"""What two processes must agree on, and what they must not: run by both, checked by the test."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import torch.distributed as dist
from mmengine.dataset import pseudo_collate
from mmengine.model import BaseModel
from mmengine.registry import HOOKS, MODELS

import refineclip.distill
import refineclip.encoders  # noqa: F401
from projects.cause.cause import CauseClusterProbe
from refineclip.distill.distillation_model import draws_of_iteration
from refineclip.encoders.text.text_bank import from_first_process
from refineclip.evaluation import PanopticEvaluationDataset, SpatialAwarenessMetric
from tests.test_distill.toys import STUDENT


def both(rank: int, root: Path) -> None:
    """Join a group of two over gloo and write what this process saw."""
    torch.set_num_threads(1)
    dist.init_process_group('gloo', init_method=f'file://{root / "meet"}', rank=rank, world_size=2)
    torch.manual_seed(3)
    seen: dict[str, Any] = dict(
        answer=from_first_process(lambda: f'made by {rank}'),
        refusal=refusal(),
        centres=centres(rank),
        boxes=boxes(),
        draw=draw(),
        spatial=spatial(rank, root),
    )
    torch.save(seen, root / f'{rank}.pt')
    dist.destroy_process_group()


def refusal() -> str:
    """An error of the first process, as every process sees it."""

    def fail() -> None:
        raise ValueError('no such tower')

    try:
        from_first_process(fail)
    except ValueError as error:
        return str(error)
    return 'none'


def centres(rank: int) -> torch.Tensor:
    """Cluster centres after a first batch that differs between the processes."""
    probe = CauseClusterProbe(STUDENT, None, num_clusters=3)
    generator = torch.Generator().manual_seed(rank)
    probe.loss(torch.nn.functional.normalize(torch.randn(2, 8, 12, generator=generator), dim=-1))
    return probe.centres.detach()


class Host(BaseModel):
    """A model with a backbone that learns."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = MODELS.build({**STUDENT, 'frozen': False})

    def forward(self, inputs: Any, data_samples: Any = None, mode: str = 'tensor') -> Any:
        return {}


def boxes() -> torch.Tensor:
    """The boxes that SCDHook draws on one image."""
    sampler = dict(type='RandomCropRegions', groups=[dict(num=3, area=(0.2, 0.5))])
    hook = HOOKS.build(dict(type='SCDHook', region_sampler=sampler))
    hook.before_run(SimpleNamespace(model=Host()))
    return hook._draw_boxes(torch.zeros(1, 3, 32, 32), None)


def draw() -> torch.Tensor:
    """What the two stages draw in an iteration."""
    with draws_of_iteration():
        return torch.randperm(100)


def spatial(rank: int, root: Path) -> dict[str, float]:
    """Spatial measures, each process with every other image."""
    dataset = PanopticEvaluationDataset(root / 'coco')
    metric = SpatialAwarenessMetric(['imk', 'auc', 'knn'])
    metric.dataset_meta = dataset.metainfo
    for index in range(rank, len(dataset), 2):
        process(metric, dataset, index)
    return metric.evaluate(len(dataset))


def process(metric: SpatialAwarenessMetric, dataset: PanopticEvaluationDataset, index: int) -> None:
    """Feed a random map of an image, a function of its index, to the metric."""
    generator = torch.Generator().manual_seed(index)
    sample = dict(map=torch.randn(6, 8, 8, generator=generator), picture=None)
    metric.process(pseudo_collate([dataset[index]]), [sample])
