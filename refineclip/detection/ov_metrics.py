"""mmdet's open-vocabulary metrics, counted by faster-coco-eval where it is installed.

The same numbers under the same keys, several times sooner. For LVIS it is also the only way with a
current numpy: the ``lvis`` package of PyPI uses ``np.float``, which numpy 1.24 removed.
"""

from __future__ import annotations

import importlib.util
import inspect
import logging
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmdet.datasets.api_wrappers import COCO
from mmdet.evaluation import CocoMetric, LVISMetric, OVCocoMetric
from mmengine.fileio import load
from mmengine.logging import MMLogger, print_log
from mmengine.registry import METRICS

from .coco_boxes import complete_annotations

FASTER = 'faster-coco-eval'
EVALUATORS = ('auto', FASTER, 'reference')
Predictions = list[dict[str, Any]]


class FasterEvaluation(CocoMetric):
    """Mixin for metrics of mmdet: count with faster-coco-eval, or leave it to the parent.

    Args:
        evaluator: ``'faster-coco-eval'``, ``'reference'`` (what the parent uses: pycocotools or
            lvis), or ``'auto'``: the first where it is installed, with a note in the log if not.
        kwargs: Arguments of the parent.

    Raises:
        ValueError: If the evaluator is unknown.
        ModuleNotFoundError: If it is not installed.
    """

    metrics: list[str]
    classwise: bool
    format_only: bool
    metric_items: Sequence[str] | None
    outfile_prefix: str | None
    cat_ids: Any
    _coco_api: Any

    def __init__(self, *args: Any, evaluator: str = 'auto', **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for api in (self._coco_api, getattr(self, '_lvis_api', None)):
            if api is not None:  # now, and not when the whole test has run
                complete_annotations(str(kwargs.get('ann_file', 'ann_file')), api.dataset)
        if evaluator not in EVALUATORS:
            raise ValueError(f'evaluator: expected one of {EVALUATORS}, got {evaluator!r}')
        installed = importlib.util.find_spec('faster_coco_eval') is not None
        if evaluator == FASTER and not installed:
            raise ModuleNotFoundError(
                f'expected {FASTER} for evaluator={evaluator!r}, got no such package; do '
                f"`pip install {FASTER}`, or take evaluator='reference'"
            )
        if evaluator == 'auto' and not installed:
            print_log(f'{FASTER} is not installed: the slow reference evaluates', logger='current')
        self.faster = installed and evaluator != 'reference' and self._can_be_faster(evaluator)

    def _can_be_faster(self, evaluator: str) -> bool:
        """Tell whether what is asked for is boxes and masks; the parents know more than that."""
        plain = not (self.classwise or self.format_only or self.metric_items)
        plain = plain and set(self.metrics) <= {'bbox', 'segm'}
        if not plain:
            print_log(
                'classwise, format_only, metric_items and proposals are evaluated by the slow '
                f'reference, not by {FASTER}',
                logger='current',
                level=logging.WARNING if evaluator == FASTER else logging.INFO,
            )
        return plain

    def _truth(self, truths: Sequence[dict], prefix: str) -> dict[str, Any]:
        """Ground truth as an annotation file holds it; sets ``cat_ids``."""
        raise NotImplementedError

    def _count(self, metric: str, dataset: dict[str, Any], found: Predictions) -> dict[str, float]:
        """The metrics of ``'bbox'`` or ``'segm'`` predictions."""
        raise NotImplementedError

    def compute_metrics(self, results: list[tuple[dict, dict]]) -> dict[str, float]:
        """The parent's numbers under the parent's keys.

        Args:
            results: A pair (ground truth, predictions) per image, as the parent collects them.
        """
        if not self.faster:
            return super().compute_metrics(results)
        truths, predictions = zip(*results, strict=True)
        metrics: dict[str, float] = {}
        with tempfile.TemporaryDirectory() as folder:
            prefix = self.outfile_prefix or str(Path(folder) / 'results')
            dataset = self._truth(truths, prefix)
            files = self.results2json(predictions, prefix)
            for metric in self.metrics:
                found = load(files[metric])
                if not found:
                    MMLogger.get_current_instance().error(
                        'The testing results of the whole dataset is empty.'
                    )
                    break
                metrics.update(self._count(metric, dataset, found))
        return metrics


@METRICS.register_module()
class FastOVCocoMetric(FasterEvaluation, OVCocoMetric):
    """:class:`mmdet.evaluation.OVCocoMetric`: AP50 of base, novel and all classes, and COCO's APs.

    One evaluation over all classes of the split and means over its parts, which is F-ViT's
    convention; two evaluations of 80 classes each, as elsewhere, give close but not equal numbers.
    The data set's ``metainfo`` names ``base_classes`` and ``novel_classes``.
    """

    def _truth(self, truths: Sequence[dict], prefix: str) -> dict[str, Any]:
        if self._coco_api is None:
            self._coco_api = COCO(self.gt_to_coco_json(truths, prefix))
        if self.cat_ids is None:
            names = self.dataset_meta
            self.cat_ids = self._coco_api.get_cat_ids(cat_names=names['classes'])
            self.base_cat_ids = self._coco_api.get_cat_ids(cat_names=names['base_classes'])
            self.novel_cat_ids = self._coco_api.get_cat_ids(cat_names=names['novel_classes'])
        return self._coco_api.dataset

    def _count(self, metric: str, dataset: dict[str, Any], found: Predictions) -> dict[str, float]:
        if metric == 'segm':
            # With a box, its area would be taken for the mask's.
            found = [{k: v for k, v in row.items() if k != 'bbox'} for row in found]
        evaluation = evaluate_faster(
            dataset, found, metric, self.cat_ids, self.proposal_nums, self.iou_thrs
        )
        # (IoU threshold, recall, category, area, number of boxes); categories in order of their id.
        precision = evaluation.eval['precision'][..., 0, -1]
        ids = np.sort(self.cat_ids)
        metrics = {}
        for part, part_ids in (('base', self.base_cat_ids), ('novel', self.novel_cat_ids)):
            of_part = precision[:, :, np.isin(ids, part_ids)]
            metrics[f'{part}_ap'] = _mean(of_part)
            metrics[f'{part}_ap50'] = _mean(of_part[0])
        for index, item in enumerate(('mAP', 'mAP_50', 'mAP_75', 'mAP_s', 'mAP_m', 'mAP_l')):
            metrics[f'{metric}_{item}'] = float(round(evaluation.stats[index], 3))
        return metrics


@METRICS.register_module()
class FastLVISMetric(FasterEvaluation, LVISMetric):
    """:class:`mmdet.evaluation.LVISMetric`: AP of rare, common, frequent and all classes.

    Raises:
        RuntimeError: If the reference is to evaluate and cannot, with this numpy.
    """

    MAX_DETECTIONS = 300  # LVIS's own limit per image

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if not self.faster and not reference_lvis_works():
            raise RuntimeError(
                f'expected an evaluator for LVIS, got the package lvis, which fails with numpy '
                f'{np.__version__} (it uses np.float); do `pip install {FASTER}` (bbox and segm)'
            )

    def _truth(self, truths: Sequence[dict], prefix: str) -> dict[str, Any]:
        if self._lvis_api is None:
            raise ValueError(
                'FastLVISMetric: expected ann_file, got None; LVIS needs to know which categories '
                'were looked for in which image'
            )
        if self.cat_ids is None:
            self.cat_ids = self._lvis_api.get_cat_ids()
        return self._lvis_api.dataset

    def _count(self, metric: str, dataset: dict[str, Any], found: Predictions) -> dict[str, float]:
        evaluation = evaluate_faster(
            dataset,
            best_per_image(found, self.MAX_DETECTIONS),
            metric,
            self.cat_ids,
            [self.MAX_DETECTIONS],
            # As the parent, whose iou_thrs is for recalls only.
            np.linspace(0.5, 0.95, 10),
            lvis_style=True,
        )
        stats = evaluation.all_stats
        names = ('AP', 'AP50', 'AP75', 'APs', 'APm', 'APl')
        values = dict(zip(names, stats, strict=False))
        # faster-coco-eval appends the three groups of frequency to COCO's numbers.
        values |= dict(zip(('APr', 'APc', 'APf'), stats[-3:], strict=True))
        return {f'{metric}_{name}': float(f'{value:.3f}') for name, value in values.items()}


def evaluate_faster(
    dataset: dict[str, Any],
    predictions: Predictions,
    iou_type: str,
    cat_ids: Sequence[int],
    max_detections: Sequence[int],
    iou_thresholds: Sequence[float] | np.ndarray,
    lvis_style: bool = False,
) -> Any:
    """Evaluate with faster-coco-eval; returns its evaluator with ``eval`` and ``stats`` filled.

    Args:
        dataset: Ground truth, as an annotation file holds it.
        predictions: Rows with ``image_id``, ``category_id``, ``score`` and ``bbox`` (xywh, pixels)
            or ``segmentation``.
        iou_type: ``'bbox'`` or ``'segm'``.
        cat_ids: Categories to evaluate.
        max_detections: Numbers of boxes per image, increasing.
        iou_thresholds: As COCO's.
        lvis_style: Count as LVIS does: images that were not searched for a category are left out.
    """
    from faster_coco_eval import COCO as FasterCOCO
    from faster_coco_eval import COCOeval_faster

    truth = FasterCOCO(dataset)
    evaluation = COCOeval_faster(
        truth, truth.loadRes(predictions), iou_type, lvis_style=lvis_style, print_function=_log
    )
    evaluation.params.catIds = list(cat_ids)
    evaluation.params.maxDets = list(max_detections)
    evaluation.params.iouThrs = np.asarray(iou_thresholds)
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return evaluation


def best_per_image(predictions: Predictions, number: int) -> Predictions:
    """Keep the rows of the highest score of each image, over all classes, as LVIS does."""
    per_image: dict[int, Predictions] = {}
    for row in predictions:
        per_image.setdefault(row['image_id'], []).append(row)
    return [
        row
        for rows in per_image.values()
        for row in sorted(rows, key=lambda each: each['score'], reverse=True)[:number]
    ]


def reference_lvis_works() -> bool:
    """Tell whether the installed ``lvis`` package can evaluate with the installed numpy."""
    if hasattr(np, 'float'):
        return True
    import lvis.eval

    return 'np.float)' not in inspect.getsource(lvis.eval)


def _mean(values: np.ndarray) -> float:
    """Mean of the defined precisions; -1, as COCO's, if there is none."""
    defined = values[values > -1]
    return float(defined.mean()) if defined.size else -1.0


def _log(message: object) -> None:
    """Log the summary, and not that each step began and ended."""
    if 'Average' in str(message):
        print_log(str(message), logger='current')
