"""Region accuracy and spatial awareness as metrics of mmengine's loops."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from mmengine.evaluator import BaseMetric
from mmengine.registry import METRICS
from torch import Tensor
from torch.nn import functional as F

from refineclip.encoders.text import load_text_embeddings
from refineclip.encoders.text_head import TextHead

from .bootstrap import ImageScores
from .regions.class_texts import class_texts
from .regions.panoptic_regions import RegionRules, choose_classes, label_image
from .regions.pooling import RegionFeatures, boxes_on_canvas, pool_image, score_regions
from .spatial.patch_labels import WHOLE_CANVAS


class PanopticMetric(BaseMetric):
    """Base of the two: pairs dense maps with annotations, and turns scores into plain numbers.

    Takes what the ``predict`` mode of :class:`RefinerTraining` and :class:`RegionAlignment`
    returns, on a :class:`PanopticEvaluationDataset`.

    Args:
        collect_device: 'cpu' or 'gpu', where the processes' results meet.
        prefix: Stands before the names in the log.
    """

    def pairs(
        self, data_batch: Mapping[str, Any], data_samples: Sequence[Any]
    ) -> Iterator[tuple[int, Any, Tensor, Sequence[float]]]:
        """Yield index, annotation, dense map (D, h, w) and picture rectangle of each image.

        Raises:
            TypeError: If model or data set are not those that the metric is for.
            ValueError: If a map is not finite.
        """
        if 'annotation' not in data_batch or not all(
            isinstance(sample, Mapping) and 'map' in sample for sample in data_samples
        ):
            raise TypeError(
                f'{type(self).__name__}: expected dense maps of RefinerTraining or RegionAlignment '
                f'on a PanopticEvaluationDataset, got a batch with {sorted(data_batch)} and '
                f'{[type(sample).__name__ for sample in data_samples]}'
            )
        rows = zip(data_batch['img_ids'], data_batch['annotation'], data_samples, strict=True)
        for index, annotation, sample in rows:
            if not sample['map'].isfinite().all():
                raise ValueError(
                    f'expected finite features, got NaN or infinity for {annotation.image.img_path}'
                )
            picture = sample['picture']
            yield (
                int(index),
                annotation,
                sample['map'].detach().float(),
                WHOLE_CANVAS if picture is None else picture.tolist(),
            )

    @staticmethod
    def numbers(scores: Mapping[str, ImageScores]) -> dict[str, float]:
        """Values of scores, by name."""
        return {name: score.value for name, score in scores.items()}


@METRICS.register_module()
class RegionAccuracyMetric(PanopticMetric):
    """Classification of ground-truth boxes and masks by class names.

    Args:
        text_embeddings: File of embeddings of the classes, see
            :func:`~refineclip.evaluation.regions.class_texts.class_texts`.
        text: ``dict(model=..., pretrained=..., templates='vild', cache_dir=...)``: the text tower
            that embeds the class names, where there is no file.
        text_head: File of a :class:`TextHead`, for towers without text.
        classes: Vocabulary, some classes of the data set; all by default.
        area_px: See :class:`~refineclip.evaluation.regions.panoptic_regions.RegionRules`.
        min_area: See there.
        mask_pooling: See there.
        topk: A region is right at k if its class is among the k most similar.
        collect_device: See :class:`PanopticMetric`.
        prefix: See there.

    Raises:
        ValueError: Without a source of text embeddings, or on rules out of range.
        FileNotFoundError: If a file does not exist.
    """

    default_prefix = 'regions'

    def __init__(
        self,
        text_embeddings: str | None = None,
        text: Mapping[str, Any] | None = None,
        text_head: str | None = None,
        classes: Sequence[str] | None = None,
        area_px: tuple[float, float] = (8**2, 1024**2),
        min_area: float = 0.0,
        mask_pooling: str = 'area',
        topk: Sequence[int] = (1, 5),
        collect_device: str = 'cpu',
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        if (text_embeddings is None) == (text is None):
            raise ValueError(
                'RegionAccuracyMetric: expected text_embeddings=FILE or text=dict(model=..., '
                f'pretrained=...), got {text_embeddings!r} and {text!r}'
            )
        if text_embeddings is not None:
            load_text_embeddings(text_embeddings)  # a missing file should not cost an epoch
        self.text_embeddings = text_embeddings
        self.text = dict(text or {})
        self.text_head = None if text_head is None else TextHead.load(text_head)
        self.classes = classes
        self.rules = RegionRules(tuple(area_px), min_area, mask_pooling)  # type: ignore[arg-type]
        self.topk = tuple(topk)
        self._texts: Tensor | None = None

    def process(self, data_batch: Any, data_samples: Sequence[Any]) -> None:
        """Pool the regions of a batch."""
        indices = choose_classes(self.dataset_meta['classes'], self.classes)
        class_of = {int(category): i for i, category in enumerate(indices)}
        for index, annotation, dense_map, picture in self.pairs(data_batch, data_samples):
            grid = dense_map.shape[1], dense_map.shape[2]
            labels = label_image(
                annotation.image, annotation.ids, grid, picture, self.rules, class_of
            )
            boxes = torch.from_numpy(annotation.image.boxes())[labels.rows]
            pooled = pool_image(
                dense_map, boxes_on_canvas(boxes, picture), labels.masks, self.rules.mask_pooling
            )
            self.results.append((index, labels.labels, *pooled))

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Classify all regions.

        Raises:
            ValueError: If no segment counts as a region, or the text does not fit.
        """
        rows = sorted(results, key=lambda row: row[0])
        features = RegionFeatures(*(torch.cat([row[i] for row in rows]) for i in (2, 3)))
        if len(features.boxes) == 0:
            raise ValueError(
                f'expected segments that count as regions, got none in {len(rows)} images under '
                f'{self.rules}; widen the area limits or the classes'
            )
        all_classes = self.dataset_meta['classes']
        indices = choose_classes(all_classes, self.classes)
        names = [all_classes[i] for i in indices]
        if self._texts is None:
            texts = class_texts(all_classes, names, self.text_embeddings, **self.text)
            self._texts = texts.embeddings
        scores = score_regions(
            features,
            [row[1] for row in rows],
            self.dataset_meta['is_thing'][indices],
            self._texts,
            self.text_head,
            self.topk,
        )
        return self.numbers(scores)


@METRICS.register_module()
class SpatialAwarenessMetric(PanopticMetric):
    """The spatial measures of dense maps, without any text.

    Holds the tokens of all images until the end: keep the data set's ``limit`` at some hundreds.

    Args:
        measures: Some of 'auc', 'imk', 'gk', 'knn', 'ridge'; all by default.
        min_coverage: A token shows the segment that covers at least this share of it.
        collect_device: See :class:`PanopticMetric`.
        prefix: See there.
    """

    default_prefix = 'spatial'

    def __init__(
        self,
        measures: Sequence[str] | None = None,
        min_coverage: float = 0.5,
        collect_device: str = 'cpu',
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        from .spatial.suite import check_measures  # scikit-learn, which training does not need

        self.measures = check_measures(measures)
        self.min_coverage = min_coverage

    def process(self, data_batch: Any, data_samples: Sequence[Any]) -> None:
        """Label the tokens of a batch."""
        for index, annotation, dense_map, picture in self.pairs(data_batch, data_samples):
            grid = dense_map.shape[1], dense_map.shape[2]
            labels = label_image(
                annotation.image,
                annotation.ids,
                grid,
                picture,
                RegionRules(),
                {},
                self.min_coverage,
            )
            tokens = F.normalize(dense_map.flatten(1).T, dim=1).cpu()
            self.results.append((index, tokens, labels.segments, labels.classes))

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Score all tokens."""
        from .spatial.suite import spatial_scores

        _, tokens, segments, classes = zip(*sorted(results, key=lambda row: row[0]), strict=True)
        scores = spatial_scores(
            tokens, segments, classes, self.dataset_meta['class_to_super'], self.measures
        )
        return self.numbers(scores)
