"""All measures of dense encoders on one panoptic data set, spatial and by class names."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from refineclip.datasets.coco_panoptic import CocoPanoptic
from refineclip.distill.region_preprocessor import RegionPreprocessor
from refineclip.distill.roi_ops import pool_regions
from refineclip.encoders.text_head import TextHead

from .bootstrap import ImageScores
from .panoptic_regions import (
    RegionRules,
    check_files,
    choose_classes,
    pool_masks,
    region_masks,
    warn_of_empty,
)
from .patch_labels import assign_tokens, map_labels, segment_coverage
from .region_accuracy import region_accuracy
from .region_features import read_regions
from .shared_trunk import SharedTrunk

Scores = dict[str, ImageScores]
Track = Callable[[Iterable[Any]], Iterable[Any]]

# Normalised images are kept in memory up to this; larger sets are read again for every pass.
KEPT_BYTES = 2 * 2**30


class DenseEncoder(Protocol):
    """What is evaluated; :class:`~refineclip.encoders.RefinerCLIP` is one."""

    def dense(self, images: Tensor) -> Tensor:
        """Map normalised images (B, 3, H, W) to (B, D, h, w)."""
        ...

    def image_embedding(self, images: Tensor) -> Tensor:
        """Map normalised images (B, 3, H, W) to (B, D)."""
        ...


@dataclass(frozen=True)
class PanopticItem:
    """One image, ready to be encoded and scored.

    Attributes:
        images: (1, 3, H, W) normalised.
        boxes: (R, 5) rows [0, x1, y1, x2, y2] in [0, 1] of the canvas.
        labels: (R,) index into the vocabulary.
        masks: (R, h, w) share of each token that each region's mask covers.
        segments: (N,) segment id of every token, 0 for none.
        classes: (N,) category of the data set of every token, -1 for none.
        crops: (R, 3, c, c) normalised, where asked for.
    """

    images: Tensor
    boxes: Tensor
    labels: Tensor
    masks: Tensor
    segments: NDArray[np.int64]
    classes: NDArray[np.int64]
    crops: Tensor | None = None


@dataclass(frozen=True)
class TokenLabels:
    """What stays in memory of every image: labels as above, and the token grid (h, w)."""

    labels: Tensor
    segments: NDArray[np.int64]
    classes: NDArray[np.int64]
    grid: tuple[int, int]


@dataclass(frozen=True)
class RegionFeatures:
    """Features of all R regions of a data set by the way they were pooled.

    Attributes:
        boxes: (R, D) RoIAlign 1 x 1 on the dense map.
        masks: (R, D) mean of the tokens under the mask.
        crops: (R, D) image embedding of the region's crop, where asked for.
    """

    boxes: Tensor
    masks: Tensor
    crops: Tensor | None = None

    def items(self) -> Iterator[tuple[str, Tensor]]:
        """Name and features of each way that is there."""
        for name in ('boxes', 'masks', 'crops'):
            if (value := getattr(self, name)) is not None:
                yield name, value


class PanopticEvaluation:
    """Images, token labels, boxes and masks of one panoptic data set, and every measure on them.

    Images pass one by one. Token labels and masks follow the picture's own rectangle on the canvas,
    so letterbox and squash are both right, and padding belongs to no class.

    Args:
        dataset: The annotated images.
        preprocessor: Makes the canvas (and the crops); on the device of the encoders.
        patch_size: Side of a token in pixels of the canvas.
        min_coverage: A token shows the segment that covers at least this share of it. Not stated in
            the paper; one half, from this project's pilot.
        rules: Which segments are regions, and how masks are pooled.
        classes: Vocabulary for regions, names of the data set; regions of other classes are left
            out. All by default.
        track: Wraps the loop over images, to show progress.

    Raises:
        ValueError: On an empty data set, unknown classes, or a canvas that is no multiple of the
            patch.
        FileNotFoundError: If photos or label maps are missing.

    Examples:
        >>> evaluation = PanopticEvaluation(dataset, preprocessor, 16)  # doctest: +SKIP
        >>> maps = evaluation.maps(encoder)  # doctest: +SKIP
        >>> evaluation.spatial_scores(maps)['auc'].value  # doctest: +SKIP
    """

    def __init__(
        self,
        dataset: CocoPanoptic,
        preprocessor: RegionPreprocessor,
        patch_size: int,
        min_coverage: float = 0.5,
        rules: RegionRules | None = None,
        classes: Sequence[str] | None = None,
        track: Track | None = None,
    ) -> None:
        check_files(dataset)
        if any(side % patch_size for side in preprocessor.image_size):
            raise ValueError(
                f'expected an image size that is a multiple of the patch {patch_size}, got '
                f'{preprocessor.image_size}'
            )
        self.dataset = dataset
        self.preprocessor = preprocessor
        self.patch_size = patch_size
        self.min_coverage = min_coverage
        self.rules = rules or RegionRules()
        indices = choose_classes(dataset, classes)
        self.classes = tuple(dataset.classes[i] for i in indices)
        self.is_thing: NDArray[np.bool_] = dataset.is_thing[indices]
        self._class_of = {int(category): i for i, category in enumerate(indices)}
        self.track: Track = track or iter
        self._keeps = len(dataset) * 12 * int(np.prod(preprocessor.image_size)) <= KEPT_BYTES
        self._items: dict[int, PanopticItem] = {}
        self._labels: dict[int, TokenLabels] = {}
        self._empty: dict[int, list[tuple[Path, int]]] = {}

    def _grid(self, images: Tensor) -> tuple[int, int]:
        return images.shape[-2] // self.patch_size, images.shape[-1] // self.patch_size

    def item(self, index: int, crops: bool = False) -> PanopticItem:
        """Read one image, its labels and its regions."""
        if index in self._items and not crops:
            return self._items[index]
        image = self.dataset[index]
        ids = image.read_ids()
        present = np.unique(ids)
        chosen = [s for s in self.rules.choose(image) if s.category in self._class_of]
        self._empty[index] = [
            (image.label_path, s.id) for s in image.segments if s.id not in present
        ]
        chosen = [s for s in chosen if s.id in present]
        boxes = replace(image, segments=tuple(chosen)).boxes()
        batch = read_regions(image, boxes, self.preprocessor)
        grid = self._grid(batch.images)
        coverage = segment_coverage(ids, grid, batch.pictures[0].tolist())
        masks = region_masks(ids, [s.id for s in chosen], grid, coverage=coverage)
        segments = assign_tokens(*coverage, self.min_coverage)
        item = PanopticItem(
            images=batch.images,
            boxes=batch.boxes,
            labels=torch.tensor([self._class_of[s.category] for s in chosen]).long(),
            masks=torch.from_numpy(masks),
            segments=segments,
            classes=map_labels(segments, {s.id: s.category for s in image.segments}),
            crops=batch.crops if crops else None,
        )
        self._labels[index] = TokenLabels(item.labels, item.segments, item.classes, grid)
        if self._keeps:
            self._items[index] = replace(item, crops=None)
        return item

    def items(self, crops: bool = False) -> Iterator[PanopticItem]:
        """Read all images in order, and warn once of segments without a pixel."""
        fresh = len(self._empty) < len(self.dataset)
        for index in self.track(range(len(self.dataset))):
            yield self.item(index, crops)
        if fresh:
            warn_of_empty([pair for pairs in self._empty.values() for pair in pairs])

    def maps(self, encoder: DenseEncoder) -> list[Tensor]:
        """Dense map (1, D, h, w) of every image, on the CPU.

        Raises:
            ValueError: If a map is not finite or has another grid.
        """
        return self.maps_of({'encoder': encoder})['encoder']

    @torch.inference_mode()
    def maps_of(self, encoders: Mapping[str, DenseEncoder]) -> dict[str, list[Tensor]]:
        """Like :meth:`maps` for several encoders; those of one trunk run it once per image."""
        found: dict[str, list[Tensor]] = {name: [] for name in encoders}
        trunks = SharedTrunk(encoders)
        for index, item in enumerate(self.items()):
            for name, one in trunks.dense(item.images).items():
                self._check_map(one, name, index)
                found[name].append(one.cpu())
        return found

    def _check_map(self, dense_map: Tensor, name: str, index: int) -> None:
        path = self.dataset[index].img_path
        if index not in self._labels:
            self.item(index)
        grid = self._labels[index].grid
        if tuple(dense_map.shape[-2:]) != grid:
            raise ValueError(
                f'expected a map of {grid} tokens, got {tuple(dense_map.shape[-2:])} from {name!r} '
                f'for {path}; evaluate encoders of one patch size together'
            )
        if not dense_map.isfinite().all():
            raise ValueError(
                f'expected finite features, got NaN or infinity from {name!r} for {path}; check '
                'its weights and its precision'
            )

    def spatial_scores(
        self, maps: Sequence[Tensor], measures: Sequence[str] | None = None
    ) -> Scores:
        """Score dense maps as they are, without any text.

        Args:
            maps: (1, D, h, w) of every image.
            measures: Names of :data:`~refineclip.evaluation.spatial_suite.MEASURES`; all by
                default.

        Returns:
            ``auc``, ``imk``, ``gk``, ``knn`` and ``ridge``; see
            :mod:`refineclip.evaluation.spatial_awareness`.

        Raises:
            ValueError: If a map is not finite, or there are too few images or labels for a measure.
        """
        from .spatial_suite import spatial_scores  # scikit-learn, only when it is needed

        for index, one in enumerate(maps):
            self._check_map(one, 'maps', index)
        tokens = [F.normalize(one[0].flatten(1).T.float(), dim=1) for one in maps]
        items = self.labels()
        return spatial_scores(
            tokens,
            [item.segments for item in items],
            [item.classes for item in items],
            self.dataset.class_to_super,
            measures,
        )

    def labels(self) -> list[TokenLabels]:
        """Labels of every image, in order; read if no pass over the images has done so."""
        if len(self._labels) < len(self.dataset):
            for _ in self.items():
                pass
        return [self._labels[index] for index in range(len(self.dataset))]

    @torch.inference_mode()
    def region_features(
        self, encoders: Mapping[str, DenseEncoder], crops: bool = True
    ) -> dict[str, RegionFeatures]:
        """Pool all regions with every encoder, image by image; no map is kept.

        Args:
            encoders: By name; those of one trunk run it once per image.
            crops: Also encode every region as a crop of its own.

        Raises:
            ValueError: If there is no region, or a map is not finite.
        """
        trunks = SharedTrunk(encoders)
        parts: dict[str, list[tuple[Tensor, ...]]] = {name: [] for name in encoders}
        for index, item in enumerate(self.items(crops)):
            if len(item.labels) == 0:
                continue
            maps = trunks.dense(item.images)
            embeddings = {} if item.crops is None else trunks.image_embedding(item.crops)
            for name, one in maps.items():
                self._check_map(one, name, index)
                pooled = self._pool(one, item)
                parts[name].append((*pooled, *([embeddings[name].float().cpu()] if crops else [])))
        self._check_regions(any(parts.values()))
        return {
            name: RegionFeatures(*(torch.cat(columns) for columns in zip(*rows, strict=True)))
            for name, rows in parts.items()
        }

    def _pool(self, dense_map: Tensor, item: PanopticItem) -> tuple[Tensor, Tensor]:
        boxes = pool_regions(dense_map, item.boxes.to(dense_map.device), 1).flatten(1)
        masks = item.masks.to(dense_map.device)
        return boxes.cpu(), pool_masks(dense_map[0], masks, self.rules.mask_pooling).cpu()

    def _check_regions(self, found: bool) -> None:
        if not found:
            raise ValueError(
                f'expected segments that count as regions, got none in {len(self.dataset)} images '
                f'under {self.rules}; widen the area limits or the classes'
            )

    def region_scores(
        self,
        maps: Sequence[Tensor],
        text_embeddings: Tensor,
        text_head: TextHead | None = None,
        topk: Sequence[int] = (1, 5),
    ) -> Scores:
        """Classify boxes and masks of dense maps by class names; see :meth:`score_regions`.

        Args:
            maps: (1, D, h, w) of every image.
            text_embeddings: (C, D) embeddings of ``classes``, any norm.
            text_head: Maps features into the text space, for towers without text.
            topk: A region is right at k if its class is among the k most similar.
        """
        pooled = []
        for index, one in enumerate(maps):
            self._check_map(one, 'maps', index)
            pooled.append(self._pool(one, self.item(index)))
        boxes, masks = (torch.cat(part) for part in zip(*pooled, strict=True))
        self._check_regions(len(boxes) > 0)
        return self.score_regions(RegionFeatures(boxes, masks), text_embeddings, text_head, topk)

    def score_regions(
        self,
        features: RegionFeatures,
        text_embeddings: Tensor,
        text_head: TextHead | None = None,
        topk: Sequence[int] = (1, 5),
    ) -> Scores:
        """Classify pooled regions by class names.

        Returns:
            For each way ``boxes``, ``masks``, ``crops`` that is there and each k:
            ``{way}_top{k}``, ``{way}_things_top{k}``, ``{way}_stuff_top{k}`` (shares of regions)
            and ``{way}_class_top{k}``, ``{way}_things_class_top{k}``, ``{way}_stuff_class_top{k}``
            (means over the classes of the fixed list that occur).

        Raises:
            ValueError: If the embeddings fit neither the classes nor the features.
        """
        expected = (len(self.classes), features.boxes.shape[1])
        if text_head is not None:
            expected = (expected[0], text_head.weight.shape[0])
        if tuple(text_embeddings.shape) != expected:
            raise ValueError(
                f'expected text embeddings of shape {expected}, one row per class and the width of '
                f'the features, got {tuple(text_embeddings.shape)}'
            )
        per_image = [one.labels for one in self.labels()]
        counts = [len(one) for one in per_image]
        labels = torch.cat(per_image)
        images = np.repeat(np.arange(len(counts)), counts)
        scores: Scores = {}
        for way, value in features.items():
            logits = _classify(value, text_embeddings, text_head)
            result = region_accuracy(logits, labels, images, len(counts), self.is_thing, topk)
            scores |= {f'{way}_{key}': score for key, score in result.scores.items()}
        return scores


def _classify(features: Tensor, text: Tensor, head: TextHead | None) -> Tensor:
    if head is not None:
        return head.classify(features, text)
    return F.normalize(features, dim=1) @ F.normalize(text.float(), dim=1).T
