"""CAT-Seg's test time: overlapping windows and a global view, averaged as probabilities.

Nothing here holds all classes at the size of the image: classes are up-sampled, merged and compared
a few at a time.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from ..sliding_windows import Window, cut_windows, fold_windows, resize, window_boxes
from .cost_aggregation import place_classes

Size = tuple[int, int]


@dataclass(frozen=True)
class WindowPlan:
    """Which views of an image are looked at.

    Attributes:
        size: The image is resized to these pixels (height, width); its aspect is not kept.
        window: Side of the square windows, in pixels of the resized image.
        stride: Distance of neighbouring windows.
    """

    size: Size
    window: int
    stride: int

    def __post_init__(self) -> None:
        for side in self.size:
            if side < self.window or (side - self.window) % self.stride:
                raise ValueError(
                    'test_cfg: expected windows that end at the border, size = window + k * '
                    f'stride, got size={self.size}, window={self.window}, stride={self.stride}'
                )

    @property
    def boxes(self) -> list[Window]:
        """(top, left, bottom, right) of every window, row by row."""
        return window_boxes(self.size, (self.window,) * 2, (self.stride,) * 2)

    def views(self, image: Tensor) -> Tensor:
        """Cut an image ``(3, H, W)`` into ``(K + 1, 3, window, window)``, the whole image last."""
        windows = cut_windows(resize(image[None], self.size)[0], self.boxes)
        return torch.cat([windows, resize(image[None], (self.window,) * 2)])

    def merge(self, logits: Tensor) -> Tensor:
        """Merge logits ``(K + 1, C, h, w)`` of the views to probabilities ``(C, *size)``.

        Each view becomes probabilities at the size of a window; overlapping windows are averaged,
        and the result is averaged with the global view.
        """
        side = self.window
        probabilities = resize(logits, (side, side)).sigmoid()
        merged = fold_windows(probabilities[:-1], self.boxes, self.size, (side, side))
        return merged.add_(resize(probabilities[-1:], self.size)[0]).mul_(0.5)


@dataclass(frozen=True)
class WholePlan:
    """One view: the whole image."""

    def views(self, image: Tensor) -> Tensor:
        """Return the image as the only view."""
        return image[None]

    def merge(self, logits: Tensor) -> Tensor:
        """Return probabilities ``(C, h, w)``."""
        return logits[0].sigmoid()


@dataclass
class ViewLogits:
    """Logits of all views of one image.

    Attributes:
        logits: ``(K, T, h, w)``.
        classes: ``(K, T)`` classes they are of, or None if these are all.
        num_classes: C.
    """

    logits: Tensor
    classes: Tensor | None
    num_classes: int

    def chunks(self, size: int) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield classes ``(c,)`` and their logits ``(K, c, h, w)``, at most ``size`` at a time.

        Classes that no view has run are left out: their probability is below 1e-43 everywhere.
        """
        if self.classes is None:
            every = torch.arange(self.num_classes, device=self.logits.device)
            for part in every.split(size):
                yield part, self.logits[:, part[0] : part[-1] + 1]
            return
        for part in self.classes.unique().split(size):
            # The place of each class in this chunk; one place more for those outside.
            place = torch.full((self.num_classes,), len(part), device=part.device)
            place[part] = torch.arange(len(part), device=part.device)
            rows = place[self.classes]
            kept = int((rows < len(part)).sum(1).max())
            index = rows.argsort(1)[:, :kept]  # those of the chunk come first
            logits = self.logits.gather(
                1, index[..., None, None].expand(-1, -1, *self.logits.shape[2:])
            )
            placed = place_classes(logits, rows.gather(1, index), len(part) + 1)
            yield part, placed[:, : len(part)]


@torch.no_grad()
def predict_labels(
    views: ViewLogits, plan: WindowPlan | WholePlan, size: Size, chunk: int, flip: int | None = None
) -> Tensor:
    """Return the most probable class of each pixel, ``(H, W)`` int64.

    Args:
        views: Logits of the views.
        plan: How they are merged.
        size: (H, W) of the result.
        chunk: Classes at a time.
        flip: Axis of ``(C, H, W)`` along which the image was flipped, which is undone.
    """
    best = labels = None
    for classes, logits in views.chunks(chunk):
        value, index = _merged(logits, plan, size, flip).max(dim=0)
        if best is None or labels is None:
            best, labels = value, classes[index]
        else:
            better = value > best
            best = torch.where(better, value, best)
            labels = torch.where(better, classes[index], labels)
    assert labels is not None  # a vocabulary has a class
    return labels


@torch.no_grad()
def predict_probabilities(
    views: ViewLogits, plan: WindowPlan | WholePlan, size: Size, chunk: int, flip: int | None = None
) -> Tensor:
    """Return the probabilities ``(C, H, W)`` of all classes; see :func:`predict_labels`."""
    result = views.logits.new_zeros(views.num_classes, *size)
    for classes, logits in views.chunks(chunk):
        result[classes] = _merged(logits, plan, size, flip)
    return result


def _merged(logits: Tensor, plan: WindowPlan | WholePlan, size: Size, flip: int | None) -> Tensor:
    merged = resize(plan.merge(logits.float())[None], size)[0]
    return merged if flip is None else merged.flip(flip)
