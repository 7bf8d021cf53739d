"""All measures of one dense encoder on the validation photos."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import normalize

from refineclip.datasets.coco_panoptic import CocoPanoptic
from refineclip.distill.region_preprocessor import RegionPreprocessor
from refineclip.distill.roi_ops import pool_regions
from refineclip.encoders.text_head import TextHead
from refineclip.evaluation import ImageScores, map_labels, patch_segments, region_accuracy
from refineclip.evaluation import spatial_awareness as spatial
from refineclip.evaluation.region_features import CropFeatures, panoptic_batch

SPATIAL = ('auc', 'imk', 'gk', 'knn', 'ridge')
REGIONS = ('box', 'things', 'stuff')

Scores = dict[str, ImageScores]
DenseFunction = Callable[[Tensor], Tensor]


class PilotEvaluation:
    """Holds the validation photos, their token labels and boxes.

    Args:
        data_root: COCO folder.
        text: (133, T) class text embeddings.
        preprocess: Squashes images and crops to the input size.
        grid: Token grid of the input size.
        split: Labelled split.
        limit: Use the first photos only.
    """

    def __init__(
        self,
        data_root: Path,
        text: Tensor,
        preprocess: RegionPreprocessor,
        grid: tuple[int, int] = (16, 16),
        split: str = 'val2017',
        limit: int | None = None,
    ) -> None:
        self.dataset = CocoPanoptic(data_root, split)
        self.dataset.images = self.dataset.images[:limit]
        self.text = text
        self.segments = [patch_segments(image.read_ids(), grid) for image in self.dataset]
        self.classes = [
            map_labels(ids, {s.id: s.category for s in image.segments})
            for ids, image in zip(self.segments, self.dataset, strict=True)
        ]
        to_super = self.dataset.class_to_super
        self.supers = [np.where(c >= 0, to_super[c], -1) for c in self.classes]
        batches = [panoptic_batch(image, preprocess) for image in self.dataset]
        self.inputs = [batch.images for batch, _ in batches]
        self.boxes = [batch.boxes for batch, _ in batches]
        self.box_labels = torch.cat([labels for _, labels in batches])
        self.box_images = np.repeat(np.arange(len(batches)), [len(b) for b in self.boxes])

    @torch.inference_mode()
    def maps(self, dense: DenseFunction) -> list[Tensor]:
        """Dense map (1, D, h, w) of every photo."""
        return [dense(images) for images in self.inputs]

    def spatial_scores(self, maps: list[Tensor]) -> Scores:
        """Score the maps as they are, without any text."""
        tokens = [normalize(one[0].flatten(1).T, dim=1) for one in maps]
        num_supers = len(self.dataset.supercategories)
        return {
            'auc': spatial.affinity_auc(tokens, self.segments),
            'imk': spatial.per_image_kmeans_miou(tokens, self.segments),
            'gk': spatial.dataset_kmeans_miou(tokens, self.supers, num_supers),
            'knn': spatial.knn_accuracy(tokens, self.classes),
            'ridge': spatial.ridge_accuracy(tokens, self.classes),
        }

    def box_scores(self, maps: list[Tensor], head: TextHead) -> Scores:
        """Classify the ground-truth boxes by their pooled features."""
        features = torch.cat(
            [pool_regions(m, b, 1).flatten(1) for m, b in zip(maps, self.boxes, strict=True)]
        )
        return self.region_scores(features, head)

    def region_scores(self, features: Tensor, head: TextHead) -> Scores:
        """Classify (R, D) features of the ground-truth boxes, in their order."""
        result = region_accuracy(
            head.classify(features, self.text),
            self.box_labels,
            self.box_images,
            len(self.dataset),
            self.dataset.is_thing,
        ).scores
        return {
            'box': result['top1'],
            'things': result['things_top1'],
            'stuff': result['stuff_top1'],
            'box top-5': result['top5'],
        }

    def crop_scores(
        self, crops: CropFeatures, frozen_maps: list[Tensor], cls_head: TextHead, head: TextHead
    ) -> dict[str, Scores]:
        """Score the frozen encoder on close-ups and on the whole photo, with both heads."""
        return {
            'crop, embedding': self.region_scores(crops.embedding, cls_head),
            'crop, mean token': self.region_scores(crops.mean_token, head),
            'RoI, head of the mean token': self.box_scores(frozen_maps, head),
            'RoI, head of the embedding': self.box_scores(frozen_maps, cls_head),
        }
