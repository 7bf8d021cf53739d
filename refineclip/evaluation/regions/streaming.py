"""Regions of any number of images by class names, in memory that does not grow with them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from refineclip.encoders.text.text_head import TextHead

from ..bootstrap import ImageScores
from ..encoders.shared_trunk import DenseEncoder
from ..feature_store import FeatureStore
from ..panoptic_evaluation import PanopticEvaluation
from ..streams import ImageStream
from .panoptic_regions import warn_of_empty
from .pooling import rank_regions, scores_of_ranks


@dataclass(frozen=True)
class RegionScores:
    """What :func:`stream_region_scores` found.

    Attributes:
        scores: Encoder -> measure -> scores.
        num_regions: Regions of all images.
    """

    scores: dict[str, dict[str, ImageScores]]
    num_regions: int


@dataclass(frozen=True)
class _Image:
    """Classes of the regions of one image, the likely ones by encoder and way, and its faults."""

    labels: Tensor
    ranked: dict[str, dict[str, Tensor]]
    empty: tuple[int, ...]


def stream_region_scores(
    evaluation: PanopticEvaluation,
    encoders: Mapping[str, DenseEncoder],
    text_embeddings: Tensor,
    text_head: TextHead | None = None,
    crops: bool = True,
    store: FeatureStore | None = None,
    topk: Sequence[int] = (1, 5),
) -> RegionScores:
    """Classify the regions of every image with every encoder, image by image.

    Of an image its regions' likely classes are held (``max(topk)`` numbers for each region, way and
    encoder), no feature. Processes share the images.

    Args:
        evaluation: The images.
        encoders: By name; those of one trunk run it once per image.
        text_embeddings: (C, D) embeddings of the evaluation's ``classes``, any norm.
        text_head: Maps features into the text space, for towers without text.
        crops: Also encode every region as a crop of its own.
        store: Keeps features on disk, for later calls and other texts.
        topk: A region is right at k if its class is among the k most similar.

    Returns:
        The scores of
        :meth:`~refineclip.evaluation.panoptic_evaluation.PanopticEvaluation.score_regions`.

    Raises:
        ValueError: If there is no region, a map is not finite, the texts fit neither classes nor
            features, or a text head meets tokens that the rules normalise.
    """
    evaluation.check_head(text_head)
    features_of = (store or FeatureStore(None)).regions(evaluation, encoders, crops)
    ways = ('boxes', 'masks', 'crops') if crops else ('boxes', 'masks')
    num_classes, most = len(evaluation.classes), max(topk)
    stream = ImageStream(len(evaluation.dataset), track=evaluation.track)
    for index in stream:
        features = features_of(index)
        labels = evaluation.labels_of(index)
        evaluation.forget(index)
        ranked = {
            name: rank_regions(one, labels.labels, num_classes, text_embeddings, text_head, most)
            for name, one in features.items()
            if labels.rows
        }
        stream.put(index, _Image(labels.labels, ranked, labels.empty))
    images = stream.gather()
    labels_of_images = [one.labels for one in images]
    num_regions = sum(map(len, labels_of_images))
    evaluation.check_regions(num_regions)
    paths = [image.label_path for image in evaluation.dataset]
    warn_of_empty([(paths[i], s) for i, one in enumerate(images) for s in one.empty])
    there = [one.ranked for one in images if one.ranked]
    scores = {
        name: scores_of_ranks(
            {way: torch.cat([one[name][way] for one in there]) for way in ways},
            labels_of_images,
            evaluation.is_thing,
            topk,
        )
        for name in encoders
    }
    return RegionScores(scores, num_regions)
