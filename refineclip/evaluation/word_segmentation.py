"""Segmentation by words alone: every pixel takes the class name that its token resembles most."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from .bootstrap import ImageScores
from .panoptic_evaluation import PanopticEvaluation


def word_miou(
    data: PanopticEvaluation, maps: Sequence[Tensor], classify: Callable[[Tensor], Tensor]
) -> ImageScores:
    """Mean IoU of the classes by their names, nothing being trained.

    Token scores are interpolated to the canvas bilinearly, then the largest wins; the truth is
    brought to the canvas by its nearest pixels. Pixels of other classes count for nothing. A class
    counts if the truth or the answer has it in some image, as in mmseg.

    Args:
        data: The annotated images, squashed to the canvas.
        maps: (1, D, h, w) of every image.
        classify: Maps tokens (N, D) to scores (N, C) of ``data.classes``.

    Returns:
        Intersections and unions of each class, per image.

    Raises:
        ValueError: If the images are letterboxed.
    """
    mode = data.preprocessor.description['image_resize']
    if mode != 'squash':
        raise ValueError(
            f'expected images that fill the canvas, got image_resize={mode!r}; segment letterboxed '
            'ones by `evaluate segmentation`'
        )
    height, width = data.preprocessor.image_size
    index = {name: position for position, name in enumerate(data.classes)}
    class_of = np.array([index.get(name, -1) for name in data.dataset.classes])
    count = len(index)
    inside, either = np.zeros((len(maps), count)), np.zeros((len(maps), count))
    for row, one in enumerate(maps):
        scores = classify(one[0].flatten(1).T.float()).T.unflatten(1, one.shape[-2:])
        pixels = F.interpolate(scores[None], (height, width), mode='bilinear')[0]
        answer = pixels.argmax(0).numpy()
        truth = _truth(data, row, class_of, (height, width))
        both = np.bincount((truth * count + answer)[truth >= 0], minlength=count * count).reshape(
            count, count
        )
        inside[row] = both.diagonal()
        either[row] = both.sum(0) + both.sum(1) - both.diagonal()
    return ImageScores(inside, either)


def _truth(
    data: PanopticEvaluation, index: int, class_of: NDArray[np.intp], size: tuple[int, int]
) -> NDArray[np.intp]:
    """Class (H, W) of every pixel of the canvas; -1 counts for nothing."""
    image = data.dataset[index]
    ids = image.read_ids()
    classes = np.full(ids.shape, -1, dtype=np.intp)
    for segment in image.segments:
        if not segment.is_crowd:
            classes[ids == segment.id] = class_of[segment.category]
    pixels = torch.from_numpy(classes)[None, None].float()
    nearest: NDArray[np.intp] = (
        F.interpolate(pixels, size, mode='nearest-exact')[0, 0].numpy().astype(np.intp)
    )
    return nearest
