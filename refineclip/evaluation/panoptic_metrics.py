"""Region accuracy and spatial awareness as metrics of mmengine's loops."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from mmengine.evaluator import BaseMetric
from mmengine.logging import print_log
from mmengine.registry import METRICS
from torch import Tensor
from torch.nn import functional as F

from refineclip.encoders.finite import check_finite
from refineclip.encoders.text.embedder import load_text_embeddings
from refineclip.encoders.text.text_head import TextHead

from .bootstrap import ImageScores
from .regions.class_texts import class_texts
from .regions.panoptic_regions import choose_classes, label_image
from .regions.pooling import RegionFeatures, boxes_on_canvas, pool_image, score_regions
from .regions.rules import CLIPSELF, region_rules
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
            check_finite(sample['map'][None], 'features', [annotation.image.img_path])
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
        protocol: Name of a :class:`~refineclip.evaluation.regions.rules.RegionRules`: 'clipself',
            or 'ours', which was the only one before. It is logged with the numbers. The canvas is
            that of the model's ``data_preprocessor``, the dense mode its encoder's.
        area_px: A rule in place of the protocol's, as all that follow but the last three.
        min_area: See there.
        mask_pooling: See there.
        normalize_tokens: See there; False with a ``text_head``, which was fitted on raw features.
        class_names: See there.
        crowds: See there.
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
        protocol: str = 'clipself',
        area_px: tuple[float, float] | None = None,
        min_area: float | None = None,
        mask_pooling: str | None = None,
        normalize_tokens: bool | None = None,
        class_names: str | None = None,
        crowds: bool | None = None,
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
        if text_head is not None and normalize_tokens:
            raise ValueError(
                'RegionAccuracyMetric: expected normalize_tokens=False or None with a text_head, '
                'which was fitted on raw features, got True'
            )
        if text_embeddings is not None:
            load_text_embeddings(text_embeddings)  # a missing file should not cost an epoch
        self.text_embeddings = text_embeddings
        self.text = dict(text or {})
        self.text_head = None if text_head is None else TextHead.load(text_head)
        self.classes = classes
        self.rules = region_rules(
            protocol,
            area_px=area_px,
            min_area=min_area,
            mask_pooling=mask_pooling,
            normalize_tokens=normalize_tokens if text_head is None else False,
            class_names=class_names,
            crowds=crowds,
            templates=self.text.pop('templates', None),
        )
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
            boxes = boxes_on_canvas(labels.boxes, picture)
            pooled = pool_image(dense_map, boxes, labels.masks, self.rules)
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
        print_log(f'{self.prefix}: protocol {self.rules.describe()}', logger='current')
        all_classes = self.dataset_meta['classes']
        indices = choose_classes(all_classes, self.classes)
        names = [all_classes[i] for i in indices]
        if self._texts is None:
            texts = class_texts(
                all_classes,
                names,
                self.text_embeddings,
                templates=self.rules.templates,
                class_names=self.rules.class_names,
                **self.text,
            )
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

    What an image decides alone (``auc``, ``imk``) is scored as images come, in every process. The
    other measures need the tokens of all images together, which the first process then scores: keep
    ``limit`` at some hundreds, or leave them out.

    Args:
        measures: Some of 'auc', 'imk', 'gk', 'knn', 'ridge'; all by default.
        min_coverage: A token shows the segment that covers at least this share of it.
        limit: Score the first images of the data set only; None takes all.
        collect_device: See :class:`PanopticMetric`.
        prefix: See there.
    """

    default_prefix = 'spatial'

    def __init__(
        self,
        measures: Sequence[str] | None = None,
        min_coverage: float = 0.5,
        limit: int | None = None,
        collect_device: str = 'cpu',
        prefix: str | None = None,
    ) -> None:
        super().__init__(collect_device=collect_device, prefix=prefix)
        from .spatial.suite import PER_IMAGE, check_measures  # scikit-learn: training needs none

        self.measures = check_measures(measures)
        if limit is not None and limit < 1:
            raise ValueError(f'limit: expected one or more images, got {limit}')
        self.alone = tuple(name for name in self.measures if name in PER_IMAGE)
        self.together = tuple(name for name in self.measures if name not in PER_IMAGE)
        self.min_coverage, self.limit = min_coverage, limit

    def process(self, data_batch: Any, data_samples: Sequence[Any]) -> None:
        """Label the tokens of a batch, and score what each image decides alone."""
        from .spatial.suite import scores_of_image

        for index, annotation, dense_map, picture in self.pairs(data_batch, data_samples):
            if self.limit is not None and index >= self.limit:
                continue
            grid = dense_map.shape[1], dense_map.shape[2]
            labels = label_image(
                annotation.image,
                annotation.ids,
                grid,
                picture,
                CLIPSELF,  # no class is asked for, so there is no region
                {},
                self.min_coverage,
            )
            tokens = F.normalize(dense_map.flatten(1).T, dim=1).cpu()
            scores = scores_of_image(tokens, labels.segments, self.alone)
            kept = (tokens, labels.segments, labels.classes) if self.together else ()
            self.results.append((index, scores, kept))

    def compute_metrics(self, results: list) -> dict[str, float]:
        """Mean over images of what each decided alone; score the tokens for the rest."""
        from .spatial.suite import mean_over_images, spatial_scores

        # Once each: a sampler of several processes repeats its first images, and ``limit`` keeps
        # fewer than the number that mmengine cuts the repeats off at.
        once = {index: (scores, kept) for index, scores, kept in results}
        alone, kept = zip(*(once[index] for index in sorted(once)), strict=True)
        scores = {name: mean_over_images(name, [one[name] for one in alone]) for name in self.alone}
        if self.together:
            tokens, segments, classes = zip(*kept, strict=True)
            supers = self.dataset_meta['class_to_super']
            scores |= spatial_scores(tokens, segments, classes, supers, self.together)
        return self.numbers({name: scores[name] for name in self.measures})
