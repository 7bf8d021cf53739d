"""Features of regions pooled from dense maps, and their accuracy by class names."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from refineclip.distill.roi_ops import pool_regions
from refineclip.encoders.text.text_head import TextHead

from ..bootstrap import ImageScores
from .accuracy import accuracy_of_ranks, ranked_classes
from .rules import RegionRules


@dataclass(frozen=True)
class RegionFeatures:
    """Features of R regions by the way they were pooled.

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

    @classmethod
    def join(cls, parts: Sequence[RegionFeatures]) -> RegionFeatures:
        """Features of the regions of one part after the other, all with or without crops."""
        ways = [dict(part.items()) for part in parts]
        return cls(**{way: torch.cat([one[way] for one in ways]) for way in ways[0]})


def pool_image(
    dense_map: Tensor, boxes: Tensor, masks: Tensor, rules: RegionRules
) -> tuple[Tensor, Tensor]:
    """Pool the regions of one image, by box and by mask.

    Args:
        dense_map: (D, h, w), as the encoder gives it.
        boxes: (R, 5) rows [0, x1, y1, x2, y2] in [0, 1] of the map's canvas.
        masks: (R, h, w) of :class:`~refineclip.evaluation.regions.panoptic_regions.ImageLabels`.
        rules: Whether tokens are normalised, and how masks are pooled.

    Returns:
        Two (R, D) float32 on the CPU; a mask without a token gives zeros.
    """
    if rules.normalize_tokens:
        dense_map = F.normalize(dense_map.float(), dim=0)
    boxed = pool_regions(dense_map[None], boxes.to(dense_map.device), 1).flatten(1)
    masked = pool_masks(dense_map, masks.to(dense_map.device), rules.mask_pooling)
    return boxed.cpu(), masked.cpu()


def pool_masks(dense_map: Tensor, masks: Tensor, mask_pooling: str = 'area') -> Tensor:
    """Average a dense map under masks.

    Args:
        dense_map: (D, h, w), as the encoder gives it.
        masks: (R, h, w) weight of each token.
        mask_pooling: See :class:`~refineclip.evaluation.regions.rules.RegionRules`.

    Returns:
        (R, D) float32, zeros where a mask has no token.
    """
    weights = masks.float().flatten(1)
    if mask_pooling == 'any':
        weights = (weights > 0).float()
    weights = weights / weights.sum(dim=1, keepdim=True).clamp(min=1e-12)
    return weights @ dense_map.flatten(1).T.to(torch.float32)


def boxes_on_canvas(boxes: Tensor, picture: Sequence[float]) -> Tensor:
    """Map (R, 4) xyxy in [0, 1] of a picture to (R, 5) rows for RoIAlign on its canvas."""
    left, top, right, bottom = (float(edge) for edge in picture)
    scale = boxes.new_tensor([right - left, bottom - top] * 2)
    placed = boxes.new_tensor([left, top] * 2) + boxes * scale
    return torch.cat([placed.new_zeros(len(placed), 1), placed], dim=1)


def score_regions(
    features: RegionFeatures,
    labels: Sequence[Tensor],
    is_thing: NDArray[np.bool_],
    text_embeddings: Tensor,
    text_head: TextHead | None = None,
    topk: Sequence[int] = (1, 5),
) -> dict[str, ImageScores]:
    """Classify pooled regions by class names.

    Args:
        features: Of the regions of all images, in order.
        labels: One tensor of class indices per image.
        is_thing: (C,) thing or stuff.
        text_embeddings: (C, D) embeddings of the class names, any norm.
        text_head: Maps features into the text space, for towers without text.
        topk: A region is right at k if its class is among the k most similar.

    Returns:
        For each way ``boxes``, ``masks``, ``crops`` that is there and each k: ``{way}_top{k}``,
        ``{way}_things_top{k}``, ``{way}_stuff_top{k}`` (shares of regions) and
        ``{way}_class_top{k}``, ``{way}_things_class_top{k}``, ``{way}_stuff_class_top{k}`` (means
        over the classes of the fixed list that occur). A region whose mask has no token is wrong.

    Raises:
        ValueError: If the embeddings fit neither the classes nor the features.
    """
    truth = torch.cat(list(labels))
    ranked = rank_regions(features, truth, len(is_thing), text_embeddings, text_head, max(topk))
    return scores_of_ranks(ranked, labels, is_thing, topk)


def rank_regions(
    features: RegionFeatures,
    truth: Tensor,
    num_classes: int,
    text_embeddings: Tensor,
    text_head: TextHead | None = None,
    k: int = 5,
) -> dict[str, Tensor]:
    """Return the k most similar classes (R, k) of regions, by way; see :func:`score_regions`.

    Args:
        features: Of R regions.
        truth: (R,) class index.
        num_classes: Rows that the text embeddings should have.
        text_embeddings: (C, D).
        text_head: Maps features into the text space, for towers without text.
        k: Number of classes.

    Raises:
        ValueError: If the embeddings fit neither the classes nor the features.
    """
    width = features.boxes.shape[1] if text_head is None else text_head.weight.shape[0]
    if tuple(text_embeddings.shape) != (num_classes, width):
        raise ValueError(
            f'expected text embeddings of shape {(num_classes, width)}, one row per class and '
            f'the width of the features, got {tuple(text_embeddings.shape)}'
        )
    ranked = {}
    for way, value in features.items():
        logits = (
            F.normalize(value, dim=1) @ F.normalize(text_embeddings.float(), dim=1).T
            if text_head is None
            else text_head.classify(value, text_embeddings)
        )
        # All classes tie for zeros, and published code leaves their order to chance.
        blank = (value == 0).all(dim=1).nonzero().flatten()
        logits[blank, truth[blank]] = -2  # below every cosine
        ranked[way] = ranked_classes(logits, truth, k)
    return ranked


def scores_of_ranks(
    ranked: Mapping[str, Tensor],
    labels: Sequence[Tensor],
    is_thing: NDArray[np.bool_],
    topk: Sequence[int] = (1, 5),
) -> dict[str, ImageScores]:
    """Score what :func:`rank_regions` said of the regions of all images, in order.

    Args:
        ranked: Way -> (R, k) classes.
        labels: One tensor of class indices per image.
        is_thing: (C,) thing or stuff.
        topk: A region is right at k if its class is among the first k.
    """
    truth = torch.cat(list(labels))
    images = np.repeat(np.arange(len(labels)), [len(one) for one in labels])
    shape = len(labels), len(is_thing)
    scores: dict[str, ImageScores] = {}
    for way, classes in ranked.items():
        result = accuracy_of_ranks(classes, truth, images, shape, is_thing, topk)
        scores |= {f'{way}_{key}': score for key, score in result.scores.items()}
    return scores
