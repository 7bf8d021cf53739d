"""Training-free refining over the number of contexts, and over how much contexts resemble."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from refineclip.encoders.context_averaging import context_averaged_map

CHOICES = ('most similar', 'random', 'least similar', 'grey')
Score = Callable[[list[Tensor]], Mapping[str, float]]


@dataclass(frozen=True)
class RefiningCurve:
    """What averaging over N contexts does to the measures of a map.

    Attributes:
        counts: The numbers of contexts N, ascending.
        alone: Measure -> value of the images encoded alone, N = 0.
        values: Measure -> choice of contexts -> (draws, counts).
        similarity: Choice -> mean cosine of image embeddings of target and contexts, at the largest
            N; without ``grey``.
    """

    counts: tuple[int, ...]
    alone: dict[str, float]
    values: dict[str, dict[str, NDArray[np.float64]]]
    similarity: dict[str, float]


def context_order(embeddings: Tensor, target: int, choice: str, generator: Any) -> Tensor:
    """Order the other images as contexts of one.

    Args:
        embeddings: (I, D) L2-normalised image embeddings.
        target: Index of the image that is refined; it is never its own context.
        choice: ``'most similar'``, ``'random'`` or ``'least similar'``.
        generator: CPU generator of the random order.

    Returns:
        (I - 1,) indices, the first contexts first.
    """
    count = len(embeddings)
    others = torch.cat([torch.arange(target), torch.arange(target + 1, count)])
    if choice == 'random':
        return others[torch.randperm(count - 1, generator=generator)]
    cosine = embeddings[others] @ embeddings[target]
    return others[cosine.argsort(descending=choice == 'most similar', stable=True)]


@torch.inference_mode()
def refining_curve(
    encoder: Any,
    images: Tensor,
    score: Score,
    counts: Sequence[int] = (1, 2, 4, 8, 16),
    choices: Sequence[str] = CHOICES,
    num_draws: int = 3,
    seed: int = 0,
    track: Callable[[Iterable[Any]], Iterable[Any]] = iter,
) -> RefiningCurve:
    """Measure training-free refining; see :func:`~refineclip.encoders.context_averaging`.

    Every image is encoded beside N others of the list, one by one, and its own tokens are averaged.
    Which others is the question: those whose image embedding is most similar to its own, random
    ones, or the least similar ones. ``grey`` puts the encoder's mean colour beside it, which has
    the same change of position but no content. The maps averaged are the encoder's own; a Refiner
    takes no part.

    Args:
        encoder: A :class:`~refineclip.encoders.RefinerCLIP`.
        images: (I, 3, H, W) normalised, of one size.
        score: Turns one map (1, D, h, w) per image into measures, e.g. ``lambda maps: {key:
            one.value for key, one in evaluation.spatial_scores(maps, ['knn']).items()}``.
        counts: Numbers of contexts, each below I.
        choices: Some of :data:`CHOICES`.
        num_draws: Repetitions with other sides of the canvas, and other random contexts.
        seed: Seed of the first draw.
        track: Wraps the loop over choices and draws, to show progress.

    Raises:
        TypeError: If the encoder has no ViT to put two images into.
        ValueError: If counts or choices do not fit.
    """
    counts = _check(encoder, len(images), counts, choices, num_draws)
    embeddings = torch.cat([encoder.image_embedding(one[None]) for one in images])
    embeddings = F.normalize(embeddings.float().cpu(), dim=1)
    alone = dict(score([encoder.visual.dense(i[None], encoder.dense_mode).cpu() for i in images]))
    values: dict[str, dict[str, NDArray[np.float64]]] = {
        key: {choice: np.zeros((num_draws, len(counts))) for choice in choices} for key in alone
    }
    cosines: dict[str, list[float]] = {choice: [] for choice in choices if choice != 'grey'}
    for choice, draw in track([(c, d) for c in choices for d in range(num_draws)]):
        generator = torch.Generator().manual_seed(seed + draw)
        maps: list[list[Tensor]] = [[] for _ in counts]
        for index in range(len(images)):
            contexts = torch.zeros_like(images[:1]).expand(counts[-1], -1, -1, -1)
            if choice != 'grey':
                order = context_order(embeddings, index, choice, generator)[: counts[-1]]
                contexts = images[order.to(images.device)]
                cosines[choice].append(float((embeddings[order] @ embeddings[index]).mean()))
            averaged = prefix_averages(encoder, images[index][None], contexts, counts, generator)
            for own, one in zip(maps, averaged, strict=True):
                own.append(one)
        for column, own in enumerate(maps):
            for key, value in score(own).items():
                values[key][choice][draw, column] = value
    similarity = {choice: float(np.mean(found)) for choice, found in cosines.items()}
    return RefiningCurve(counts, alone, values, similarity)


def prefix_averages(
    encoder: Any, target: Tensor, contexts: Tensor, counts: Sequence[int], generator: Any
) -> list[Tensor]:
    """Average over the first n contexts for every n of ``counts``, in one pass over all.

    Args:
        encoder: A RefinerCLIP.
        target: (1, 3, H, W) normalised.
        contexts: (N, 3, H, W) normalised.
        counts: Ascending, none above N.
        generator: CPU generator of the random sides.

    Returns:
        One (1, D, h, w) per count, L2-normalised, on the CPU: what
        :func:`~refineclip.encoders.context_averaging.context_averaged_map` gives for each.
    """
    found: list[Tensor] = []
    total: Tensor | float = 0.0
    for number in range(1, counts[-1] + 1):
        context = contexts[number - 1 : number]
        # With a single context this is the canvas's own map, L2-normalised.
        total = total + context_averaged_map(
            encoder.visual, target, context, encoder.dense_mode, generator
        )
        if number in counts:
            found.append(F.normalize(total, dim=1).cpu())
    return found


def _check(
    encoder: Any, num_images: int, counts: Sequence[int], choices: Sequence[str], num_draws: int
) -> tuple[int, ...]:
    if not (hasattr(encoder, 'visual') and hasattr(encoder, 'dense_mode')):
        raise TypeError(
            f'expected a RefinerCLIP, got {type(encoder).__name__}; contexts act through its '
            'attention'
        )
    ordered = tuple(sorted(set(counts)))
    if not ordered or ordered[0] < 1 or ordered[-1] >= num_images:
        raise ValueError(
            f'expected numbers of contexts from 1 to {num_images - 1}, one less than the images, '
            f'got {tuple(counts)}; give more images or smaller numbers'
        )
    if unknown := [choice for choice in choices if choice not in CHOICES]:
        raise ValueError(f'choices: expected some of {CHOICES}, got {unknown}')
    if not choices or num_draws < 1:
        raise ValueError(f'expected a choice and a draw, got {choices} and {num_draws} draws')
    return ordered
