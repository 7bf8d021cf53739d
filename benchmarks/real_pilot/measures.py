"""All measures of one dense encoder on the validation photos, under the pilot's names."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from refineclip.datasets.coco_panoptic import CocoPanoptic
from refineclip.distill.region_preprocessor import RegionPreprocessor
from refineclip.encoders.text.text_head import TextHead
from refineclip.evaluation import OURS, PanopticEvaluation
from refineclip.evaluation.panoptic_evaluation import Scores
from refineclip.evaluation.regions.crop_features import CropFeatures
from refineclip.evaluation.regions.pooling import RegionFeatures

SPATIAL = ('auc', 'imk', 'gk', 'knn', 'ridge')
REGIONS = ('box', 'things', 'stuff')

# Boxes of at least 1 % of the photo.
RULES = replace(OURS, area_px=(0, math.inf), min_area=0.01)


class PilotEvaluation(PanopticEvaluation):
    """The validation photos, with the class texts.

    Args:
        data_root: COCO folder.
        text: (133, T) class text embeddings.
        preprocess: Squashes images and crops to the input size.
        patch_size: Side of a token in pixels.
        split: Labelled split.
        photos: Which of its photos.
    """

    def __init__(
        self,
        data_root: Path,
        text: Tensor,
        preprocess: RegionPreprocessor,
        patch_size: int = 14,
        split: str = 'val2017',
        photos: slice = slice(None),
    ) -> None:
        dataset = CocoPanoptic(data_root, split)
        dataset.images = dataset.images[photos]
        super().__init__(dataset, preprocess, patch_size, rules=RULES)
        self.text = text

    def box_scores(self, maps: list[Tensor], head: TextHead) -> Scores:
        """Classify the ground-truth boxes by their pooled features."""
        return rename(self.region_scores(maps, self.text, head))

    def crop_scores(
        self, crops: CropFeatures, frozen_maps: list[Tensor], cls_head: TextHead, head: TextHead
    ) -> dict[str, Scores]:
        """Score the frozen encoder on close-ups and on the whole photo, with both heads."""
        if not torch.equal(crops.labels, torch.cat([one.labels for one in self.labels()])):
            raise ValueError('expected crops of the boxes that are scored, got other labels')

        def score(features: Tensor, head: TextHead) -> Scores:
            return rename(self.score_regions(RegionFeatures(features, features), self.text, head))

        return {
            'crop, embedding': score(crops.embedding, cls_head),
            'crop, mean token': score(crops.mean_token, head),
            'RoI, head of the mean token': self.box_scores(frozen_maps, head),
            'RoI, head of the embedding': self.box_scores(frozen_maps, cls_head),
        }


def rename(scores: Scores) -> Scores:
    """Pick the pilot's measures."""
    return {
        'box': scores['boxes_top1'],
        'things': scores['boxes_things_top1'],
        'stuff': scores['boxes_stuff_top1'],
        'box top-5': scores['boxes_top5'],
    }
