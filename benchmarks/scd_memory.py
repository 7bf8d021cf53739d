"""SCD on many bins: regions streamed, the gradient formed on the way, against one batch."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from refineclip.distill.losses import SCDLoss

from . import scenes
from .harness import Comparison, Goal, Numbers
from .registry import benchmark


def _numbers(loss: SCDLoss, student: Tensor, teacher: Tensor, boxes: Tensor) -> Numbers:
    student = student.detach().requires_grad_()
    value = loss.of_maps(student, teacher, boxes)
    value.backward()
    return dict(loss=value.detach(), gradient=student.grad)


@benchmark('streamed-scd')
def streamed(quick: bool) -> Comparison:
    """The same loss and gradient of the maps, with one piece of a correlation at a time."""
    side, channels, bins = (8, 16, 4) if quick else (64, 512, 32)
    boxes = torch.cat([scenes.grid(2, 3), scenes.grid(1, 6), scenes.grid(1, 1)])
    boxes = torch.nn.functional.pad(boxes, (1, 0))
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, 1, channels, side, side, generator=generator)
    batched = SCDLoss(roi_size=bins, max_correlations=2**40)
    # 2 ** 18: a quarter of one region's correlations, 1 MiB.
    in_pieces = SCDLoss(roi_size=bins, max_correlations=2**18 // (2**12 if quick else 1))
    return Comparison(
        published=partial(_numbers, batched, student, teacher, boxes),
        ours=partial(_numbers, in_pieces, student, teacher, boxes),
        setting='13 regions of 32 x 32 bins, D = 512, out of one map of 64 x 64, float32; forward '
        'and backward; max_correlations = 2 ** 18 (default 2 ** 25 batches this size)',
        bound='the gradient of the map and the tokens of one region',
        tolerances=dict(loss=1e-6, gradient=1e-4),
        goals=(Goal('memory', at_most=1 / 8),),
        repeats=5,
    )
