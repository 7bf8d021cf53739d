"""Counting boxes after a test of OV-COCO: pycocotools against faster-coco-eval."""

from __future__ import annotations

import importlib.util
from functools import partial
from typing import Any

import torch
from mmengine.logging import MMLogger

from .harness import Comparison, Numbers, Skipped
from .registry import benchmark

SIDE = 640


def _boxes(count: int, generator: torch.Generator) -> torch.Tensor:
    """Boxes (count, 4), xyxy, of 16 to 200 px."""
    corner = torch.rand(count, 2, generator=generator) * (SIDE - 200)
    return torch.cat([corner, corner + 16 + torch.rand(count, 2, generator=generator) * 184], dim=1)


def _images(num_images: int, num_classes: int, found: int) -> list[dict[str, Any]]:
    """Images with 8 objects each, and boxes: near the objects, or anywhere."""
    generator = torch.Generator().manual_seed(0)
    images = []
    for index in range(num_images):
        truth = _boxes(8, generator)
        labels = torch.randint(num_classes, (8,), generator=generator)
        near = truth[torch.randint(8, (found // 2,), generator=generator)]
        near = near + 12 * torch.randn(near.shape, generator=generator)
        boxes = torch.cat([near, _boxes(found - len(near), generator)])
        predictions = dict(
            bboxes=boxes,
            scores=torch.rand(found, generator=generator),
            labels=labels[torch.randint(8, (found,), generator=generator)],
        )
        objects = [
            dict(bbox=box.tolist(), bbox_label=int(label), ignore_flag=0)
            for box, label in zip(truth, labels, strict=True)
        ]
        images.append(
            dict(
                img_id=index,
                ori_shape=(SIDE, SIDE),
                pred_instances=predictions,
                instances=objects,
            )
        )
    return images


def _measure(images: list[dict[str, Any]], classes: tuple[str, ...], evaluator: str) -> Numbers:
    from refineclip.detection.ov_metrics import FastOVCocoMetric

    metric = FastOVCocoMetric(evaluator=evaluator)
    third = len(classes) // 3
    metric.dataset_meta = dict(
        classes=classes, base_classes=classes[third:], novel_classes=classes[:third]
    )
    metric.process({}, images)
    scores = metric.evaluate(len(images))
    return {
        name: torch.tensor(scores[f'coco/{name}'])
        for name in ('base_ap50', 'novel_ap50', 'base_ap')
    }


@benchmark('coco-evaluator')
def coco_evaluator(quick: bool) -> Comparison:
    """Base and novel AP of the same boxes, with what mmdet counts with and with ours."""
    for module in ('mmdet', 'faster_coco_eval'):
        if importlib.util.find_spec(module) is None:
            raise Skipped(f'{module} is not installed')
    MMLogger.get_instance('benchmarks', log_level='ERROR')  # no tables of COCO between ours
    num_images, num_classes, found = (20, 6, 20) if quick else (400, 65, 100)
    images = _images(num_images, num_classes, found)
    classes = tuple(f'class {index}' for index in range(num_classes))
    return Comparison(
        published=partial(_measure, images, classes, 'reference'),
        ours=partial(_measure, images, classes, 'faster-coco-eval'),
        setting='the whole metric, results to files and back included; 400 images, 65 classes, 8 '
        'objects and 100 boxes each; pycocotools against faster-coco-eval',
        bound='writing and reading the results, which both do',
        tolerances=dict(base_ap50=1e-6, novel_ap50=1e-6, base_ap=1e-6),
        repeats=3,
    )
