"""``nms`` and ``softnms`` of mmcv's extension."""

from __future__ import annotations

import numpy as np
import torch
import torchvision
from numpy.typing import NDArray
from torch import Tensor

from .gradients import computable

NAIVE, LINEAR, GAUSSIAN = 0, 1, 2  # mmcv's numbers of softnms methods


def nms(boxes: Tensor, scores: Tensor, iou_threshold: float, offset: int) -> Tensor:
    """Keep each box that no kept box of a higher score overlaps by more than the threshold.

    Args:
        boxes: (N, 4), xyxy in pixels.
        scores: (N,).
        iou_threshold: In [0, 1].
        offset: 1 where a box includes the pixel of its right and lower edge, else 0.

    Returns:
        Indices of the kept boxes, int64, by falling score.
    """
    # Torch decides between equal scores, as in mmcv; torchvision keeps the order it is given.
    order = scores.sort(descending=True)[1]
    boxes, scores = computable(boxes[order]), computable(scores[order])
    if offset:
        boxes = boxes + boxes.new_tensor([0, 0, offset, offset])
    # mmcv compares in float32, torchvision's CPU kernel against a double: 0.6 is two numbers.
    return order[torchvision.ops.nms(boxes, scores, float(np.float32(iou_threshold)))]


def softnms(
    boxes: Tensor,
    scores: Tensor,
    dets: Tensor,
    iou_threshold: float,
    sigma: float,
    min_score: float,
    method: int,
    offset: int,
) -> Tensor:
    """Lower the scores of boxes that overlap a better one, and drop those that fall too low.

    Paper: Soft-NMS, arXiv 1704.04503. Torchvision has none, and mmcv's is of the CPU as well.

    Args:
        boxes: (N, 4), xyxy in pixels, on the CPU.
        scores: (N,).
        dets: (N, 5); as many rows as are kept are filled with boxes and lowered scores.
        iou_threshold: In [0, 1].
        sigma: Width of method 2.
        min_score: Boxes below are dropped.
        method: 0 drops what overlaps, 1 takes the overlap off, 2 weighs by a Gaussian of it.
        offset: See :func:`nms`.

    Returns:
        Indices of the kept boxes, int64, by falling lowered score.
    """
    rows = torch.cat([boxes, scores[:, None]], dim=1).float().numpy()
    order = np.arange(len(rows))
    count, first = len(rows), 0
    while first < count:
        best = first + int(rows[first:count, 4].argmax())
        rows[[first, best]], order[[first, best]] = rows[[best, first]], order[[best, first]]
        first += 1
        rest = rows[first:count]
        overlap = ious(rows[first - 1], rest, offset)
        rest[:, 4] *= decay(overlap, np.float32(iou_threshold), np.float32(sigma), method)
        # The last box takes the place of a dropped one, as in mmcv: it decides between equals.
        while (low := np.flatnonzero(rows[first:count, 4] < np.float32(min_score))).size:
            count -= 1
            rows[first + low[0]], order[first + low[0]] = rows[count], order[count]
    dets[:count] = torch.from_numpy(rows[:count])
    return torch.from_numpy(order[:count])


def ious(box: NDArray[np.float32], others: NDArray[np.float32], offset: int) -> NDArray[np.float32]:
    """Intersection over union of a box (5,) with others (N, 5), scores behind the boxes.

    Deviation: two empty boxes overlap by 0; mmcv divides 0 by 0 and a Gaussian makes NaN of it.
    """
    sides = np.minimum(box[2:4], others[:, 2:4]) - np.maximum(box[:2], others[:, :2]) + offset
    both = sides.clip(min=0).prod(axis=1)
    area, areas = (box[2:4] - box[:2] + offset).prod(), others[:, 2:4] - others[:, :2] + offset
    union = area + areas.prod(axis=1) - both
    return np.divide(both, union, out=np.zeros_like(both), where=union != 0)


def decay(
    overlap: NDArray[np.float32], threshold: np.float32, sigma: np.float32, method: int
) -> NDArray[np.float32]:
    """Factors of the scores, in the shape of the overlaps."""
    if method == GAUSSIAN:
        return np.exp(-(overlap * overlap) / sigma)
    lowered = 1 - overlap if method == LINEAR else np.zeros_like(overlap)
    return np.where(overlap >= threshold, lowered, np.float32(1))
