"""All measures of dense encoders on one panoptic data set, spatial and by class names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from refineclip.datasets.coco_panoptic import CocoPanoptic
from refineclip.distill.region_batch import RegionBatch
from refineclip.distill.region_preprocessor import Rect, RegionPreprocessor, Size
from refineclip.encoders.finite import check_finite
from refineclip.encoders.text.text_head import TextHead

from .bootstrap import ImageScores
from .encoders.shared_trunk import DenseEncoder, SharedTrunk
from .regions.crop_features import read_regions
from .regions.panoptic_regions import (
    ImageLabels,
    check_files,
    choose_classes,
    label_image,
    relative_boxes,
    warn_of_empty,
)
from .regions.pooling import RegionFeatures, pool_image, score_regions
from .regions.rules import CLIPSELF, RegionRules
from .streams.image_stream import ImageStream, Track

Scores = dict[str, ImageScores]

# Normalised images are kept in memory up to this; larger sets are read again for every pass. Not
# where images stream.
KEPT_BYTES = 2 * 2**30


@dataclass(frozen=True)
class PanopticItem:
    """One image, ready to be encoded and scored.

    Attributes:
        images: (1, 3, H, W) normalised.
        boxes: (R, 5) rows [0, x1, y1, x2, y2] in [0, 1] of the canvas.
        labels: Of its tokens and regions.
        crops: (R, 3, c, c) normalised, where asked for.
    """

    images: Tensor
    boxes: Tensor
    labels: ImageLabels
    crops: Tensor | None = None


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
        rules: Which segments are regions, how they are pooled and cropped. Sizes, the dense mode
            and the names belong to whoever makes the canvas, the encoders and the texts.
        classes: Vocabulary for regions, names of the data set; regions of other classes are left
            out. All by default.
        track: Wraps the loop over images, to show progress.

    Raises:
        ValueError: On an empty data set, unknown classes, a canvas that is no multiple of the
            patch, or a preprocessor that enlarges crops, which is the rules' to say.
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
        rules: RegionRules = CLIPSELF,
        classes: Sequence[str] | None = None,
        track: Track | None = None,
    ) -> None:
        check_files(dataset)
        if any(side % patch_size for side in preprocessor.image_size):
            raise ValueError(
                f'expected an image size that is a multiple of the patch {patch_size}, got '
                f'{preprocessor.image_size}'
            )
        if preprocessor.crop_enlarge != 1:
            raise ValueError(
                'expected a preprocessor that leaves the enlarging of crops to '
                f'rules.crop_enlarge, got crop_enlarge={preprocessor.crop_enlarge}'
            )
        self.dataset = dataset
        self.preprocessor = preprocessor
        self._geometry = _Geometry(**preprocessor.description)
        self.patch_size = patch_size
        self.min_coverage = min_coverage
        self.rules = rules
        indices = choose_classes(dataset.classes, classes)
        self.classes = tuple(dataset.classes[i] for i in indices)
        self.is_thing: NDArray[np.bool_] = dataset.is_thing[indices]
        self._class_of = {int(category): i for i, category in enumerate(indices)}
        self.track: Track = track or iter
        self._keeps = len(dataset) * 12 * int(np.prod(preprocessor.image_size)) <= KEPT_BYTES
        self._items: dict[int, PanopticItem] = {}
        self._labels: dict[int, ImageLabels] = {}

    def item(self, index: int, crops: bool = False) -> PanopticItem:
        """Read one image, its labels and its regions."""
        if index in self._items and not crops:
            return self._items[index]
        image = self.dataset[index]
        ids = image.read_ids()
        boxes = self.rules.boxes(image, ids)
        batch = read_regions(
            image,
            relative_boxes(boxes, image),
            self.preprocessor,
            self.rules.cuts(image, boxes) if crops else None,
        )
        labels = self._label(index, ids, batch)
        return PanopticItem(
            images=batch.images,
            boxes=batch.boxes[labels.rows],
            labels=labels,
            crops=batch.cut_crops(labels.rows) if crops else None,
        )

    def images_of(self, index: int) -> Tensor:
        """Read one photo, (1, 3, H, W) normalised, and not its labels."""
        none = np.zeros((0, 4), dtype=np.float32)
        images: Tensor = read_regions(self.dataset[index], none, self.preprocessor).images
        return images

    def labels_of(self, index: int) -> ImageLabels:
        """Labels of one image without the masks, for which the photo is not read."""
        if index not in self._labels:
            image = self.dataset[index]
            blank = torch.zeros(1, dtype=torch.uint8).expand(3, image.height, image.width)
            batch = self._geometry({'inputs': [blank]})['inputs']
            self._label(index, image.read_ids(), batch)
        return self._labels[index]

    def forget(self, index: int) -> None:
        """Hold the labels of an image no longer."""
        self._labels.pop(index, None)

    def _label(self, index: int, ids: NDArray[np.integer], batch: RegionBatch) -> ImageLabels:
        """Label an image of a batch of its own, and remember all but the masks."""
        grid = batch.images.shape[-2] // self.patch_size, batch.images.shape[-1] // self.patch_size
        assert batch.pictures is not None  # the preprocessor always says where they are
        picture = batch.pictures[0].tolist()
        image = self.dataset[index]
        labels = label_image(
            image, ids, grid, picture, self.rules, self._class_of, self.min_coverage
        )
        self._labels[index] = replace(
            labels,
            masks=labels.masks[:0].clone(),  # a view would keep all of it
            segments=labels.segments.astype(np.int32),
            classes=labels.classes.astype(np.int16),
        )
        return labels

    def items(self, crops: bool = False) -> Iterator[PanopticItem]:
        """Read all images in order, and warn once of segments without a pixel."""
        fresh = len(self._labels) < len(self.dataset)
        for index in self.track(range(len(self.dataset))):
            item = self.item(index, crops)
            if self._keeps:
                self._items[index] = replace(item, crops=None)
            yield item
        if fresh:
            self._warn_of_empty()

    def _warn_of_empty(self) -> None:
        paths = [image.label_path for image in self.dataset]
        warn_of_empty([(paths[i], s) for i, one in self._labels.items() for s in one.empty])

    def maps(self, encoder: DenseEncoder) -> list[Tensor]:
        """Dense map (1, D, h, w) of every image, on the CPU.

        Raises:
            ValueError: If a map is not finite or has another grid.
        """
        return self.maps_of({'encoder': encoder})['encoder']

    def maps_of(self, encoders: Mapping[str, DenseEncoder]) -> dict[str, list[Tensor]]:
        """Like :meth:`maps` for several encoders; those of one trunk run it once per image."""
        trunks = SharedTrunk(encoders)
        found = [self.maps_of_image(i, one.images, trunks) for i, one in enumerate(self.items())]
        return {name: [maps[name] for maps in found] for name in encoders}

    @torch.no_grad()  # not inference mode: callers may work on the maps in place
    def maps_of_image(self, index: int, images: Tensor, trunks: SharedTrunk) -> dict[str, Tensor]:
        """Dense map (1, D, h, w) of one image (1, 3, H, W) by every encoder, on the CPU.

        Raises:
            ValueError: If a map is not finite or has another grid.
        """
        maps = trunks.dense(images)
        for name, one in maps.items():
            self._check_map(one, name, index)
        return {name: one.cpu() for name, one in maps.items()}

    def _check_map(self, dense_map: Tensor, name: str, index: int) -> None:
        path = self.dataset[index].img_path
        grid = self.labels_of(index).masks.shape[1:]
        if dense_map.shape[-2:] != grid:
            raise ValueError(
                f'expected a map of {tuple(grid)} tokens, got {tuple(dense_map.shape[-2:])} from '
                f'{name!r} for {path}; evaluate encoders of one patch size together'
            )
        check_finite(dense_map[None], 'features', [path], name)

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
            :mod:`refineclip.evaluation.spatial.measures`.

        Raises:
            ValueError: If a map is not finite, or there are too few images or labels for a measure.
        """
        from .spatial.suite import spatial_scores  # scikit-learn, only when it is needed

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

    def labels(self) -> list[ImageLabels]:
        """Labels of every image, in order, without the masks; processes share the images."""
        if len(self._labels) < len(self.dataset):
            stream = ImageStream(len(self.dataset), track=self.track)
            for index in stream:
                stream.put(index, self.labels_of(index))
            self._labels = dict(enumerate(stream.gather()))
            self._warn_of_empty()
        return [self._labels[index] for index in range(len(self.dataset))]

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
        parts = [
            self.regions_of_item(index, item, trunks)
            for index, item in enumerate(self.items(crops))
            if item.labels.rows
        ]
        self.check_regions(len(parts))
        return {name: RegionFeatures.join([part[name] for part in parts]) for name in encoders}

    @torch.no_grad()
    def regions_of_item(
        self, index: int, item: PanopticItem, trunks: SharedTrunk
    ) -> dict[str, RegionFeatures]:
        """Pool the regions of one image with every encoder; crops where the item has them.

        Raises:
            ValueError: If a map is not finite or has another grid.
        """
        if not item.labels.rows:  # of unknown width, which no one asks for
            none = torch.zeros(0, 0)
            empty = RegionFeatures(none, none, None if item.crops is None else none)
            return dict.fromkeys(trunks.encoders, empty)
        maps = trunks.dense(item.images)
        crops = None if item.crops is None else trunks.image_embedding(item.crops)
        found = {}
        for name, one in maps.items():
            self._check_map(one, name, index)
            embedded = None if crops is None else crops[name].float().cpu()
            found[name] = RegionFeatures(*self._pool(one, item), embedded)
        return found

    def _pool(self, dense_map: Tensor, item: PanopticItem) -> tuple[Tensor, Tensor]:
        return pool_image(dense_map[0], item.boxes, item.labels.masks, self.rules)

    def check_regions(self, count: int) -> None:
        """Refuse a data set without a region.

        Raises:
            ValueError: If ``count`` is 0.
        """
        if count == 0:
            raise ValueError(
                f'expected segments that count as regions, got none in {len(self.dataset)} images '
                f'under {self.rules}; widen the area limits or the classes'
            )

    def check_head(self, text_head: TextHead | None) -> None:
        """Refuse a text head beside rules that normalise tokens.

        Raises:
            ValueError: Saying so.
        """
        if text_head is not None and self.rules.normalize_tokens:
            raise ValueError(
                'expected rules with normalize_tokens=False beside a text head, which was fitted '
                f'on raw features, got {self.rules.describe()}'
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
        self.check_regions(len(boxes))
        return self.score_regions(RegionFeatures(boxes, masks), text_embeddings, text_head, topk)

    def score_regions(
        self,
        features: RegionFeatures,
        text_embeddings: Tensor,
        text_head: TextHead | None = None,
        topk: Sequence[int] = (1, 5),
    ) -> Scores:
        """Classify what :meth:`region_features` pooled.

        See :func:`~refineclip.evaluation.regions.pooling.score_regions`.

        Raises:
            ValueError: If a text head meets tokens that the rules normalise.
        """
        self.check_head(text_head)
        labels = [one.labels for one in self.labels()]
        return score_regions(features, labels, self.is_thing, text_embeddings, text_head, topk)


class _Geometry(RegionPreprocessor):
    """Places pictures as its parent does, and leaves their pixels alone."""

    def _paste(self, pictures: list[Tensor], rects: list[Rect], size: Size) -> Tensor:
        return torch.empty(len(pictures), 3, *size, device='meta')
