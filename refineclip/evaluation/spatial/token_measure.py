"""What measures of dense maps share: tokens pass image by image, and memory does not grow."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from refineclip.evaluation.bootstrap import ImageScores
from refineclip.evaluation.streams.meeting import add_up, widest

Labels = Sequence[NDArray[np.integer]]


class TokenMeasure(ABC):
    """A measure that sees the tokens of one image at a time.

    All labels are known from the start, so that what is drawn at random, and what is refused, does
    not wait for the tokens.

    Args:
        labels: (N,) per image: what each token shows, or that it does not count.
    """

    # How often every image passes, in the same order and with the same tokens.
    num_passes: ClassVar[int] = 1

    def __init__(self, labels: Labels) -> None:
        self.labels = labels

    @abstractmethod
    def update(self, turn: int, index: int, tokens: Tensor) -> None:
        """Take in one image.

        Args:
            turn: Which pass this is, from 0.
            index: Position of the image among the labels.
            tokens: (N, D), L2-normalised along D.
        """

    @abstractmethod
    def meet(self, turn: int) -> None:
        """Bring together what processes gathered in a pass that they shared the images of.

        Args:
            turn: Which pass this was, from 0.
        """

    @abstractmethod
    def scores(self) -> ImageScores:
        """The measure, once all images have passed ``num_passes`` times."""


def score_tokens(measure: TokenMeasure, features: Sequence[Tensor]) -> ImageScores:
    """Let the tokens (N, D) of all images pass through a measure.

    Raises:
        ValueError: On tokens that do not fit the labels or are not finite.
    """
    if len(features) != len(measure.labels):
        raise ValueError(
            f'expected one label array per image, got {len(features)} maps and '
            f'{len(measure.labels)} arrays'
        )
    for index, tokens in enumerate(features):
        check_tokens(tokens, measure.labels[index], index)
    for turn in range(measure.num_passes):
        for index, tokens in enumerate(features):
            measure.update(turn, index, tokens)
    return measure.scores()


def check_tokens(tokens: Tensor, label: NDArray[np.integer], index: int) -> None:
    """Refuse tokens that do not fit their labels or are not finite.

    Raises:
        ValueError: Naming the image.
    """
    if tokens.ndim != 2 or len(tokens) != len(label):
        raise ValueError(
            f'expected tokens (N, D) and N labels, got {tuple(tokens.shape)} and {len(label)} '
            f'for image {index}'
        )
    if not tokens.isfinite().all():
        raise ValueError(
            f'expected finite tokens, got NaN or infinity in image {index}; check the weights '
            'and the precision of the encoder'
        )


def labelled(labels: Labels, measure: str, images: int) -> list[NDArray[np.bool_]]:
    """Return which tokens have a label.

    Raises:
        ValueError: If fewer than ``images`` images have one.
    """
    keep = [label >= 0 for label in labels]
    found = sum(bool(mask.any()) for mask in keep)
    if found < images:
        raise ValueError(
            f'{measure}: expected labelled tokens in {images} or more images, got them in {found} '
            f'of {len(labels)}; give more images or leave the measure out'
        )
    return keep


class TokenSample:
    """Tokens at drawn positions among all that count, gathered as images pass.

    Args:
        positions: (M,) of the concatenated counting tokens of all images, in any order.
        counts: (I,) tokens that count, per image.
    """

    def __init__(self, positions: NDArray[np.int64], counts: NDArray[np.int64]) -> None:
        self.starts = np.concatenate([[0], np.cumsum(counts)])
        self.order = np.argsort(positions, kind='stable')
        self.sorted = positions[self.order]
        self.tokens: Tensor | None = None

    def add(self, index: int, kept: Tensor) -> None:
        """Take what was drawn of the counting tokens (n, D) of one image."""
        start, stop = self.starts[index], self.starts[index + 1]
        first, last = np.searchsorted(self.sorted, (start, stop))
        if self.tokens is None:
            self.tokens = kept.new_zeros(len(self.order), kept.shape[1])
        self.tokens[self.order[first:last]] = kept[self.sorted[first:last] - start]

    def meet(self) -> None:
        """Bring together what the processes gathered, each of other images."""
        width = widest(0 if self.tokens is None else self.tokens.shape[1])
        if self.tokens is None:
            self.tokens = torch.zeros(len(self.order), width)
        add_up(self.tokens)
