"""SCD on many bins: regions streamed, the gradient formed on the way, against one batch."""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
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


def _streamed(quick: bool, side: int) -> Comparison:
    channels, bins = 512, 32
    if quick:
        side, channels, bins = 8, 16, 4
    boxes = torch.cat([scenes.grid(2, 3), scenes.grid(1, 6), scenes.grid(1, 1)])
    boxes = F.pad(boxes, (1, 0))
    generator = torch.Generator().manual_seed(0)
    student, teacher = torch.randn(2, 1, channels, side, side, generator=generator)
    batched = SCDLoss(**scenes.PLAIN_SCD, roi_size=bins, max_correlations=2**40)
    # A sixteenth of one region's correlations, 64 rows: 256 KiB.
    in_pieces = SCDLoss(**scenes.PLAIN_SCD, roi_size=bins, max_correlations=bins**4 // 16)
    return Comparison(
        published=partial(_numbers, batched, student, teacher, boxes),
        ours=partial(_numbers, in_pieces, student, teacher, boxes),
        setting=f'13 regions of 32 x 32 bins, D = 512, out of one map of {side} x {side}, float32; '
        'forward and backward; max_correlations = 2 ** 16 (the default, 2 ** 25, batches them)',
        bound='both maps and their gradients; then the tokens of one region',
        tolerances=dict(loss=1e-6, gradient=1e-5),
        goals=(Goal('memory', at_most=1 / 8),),
    )


@benchmark('streamed-scd-560')
def map_of_560(quick: bool) -> Comparison:
    """The map of B/16 at 560 px."""
    return _streamed(quick, 35)


@benchmark('streamed-scd-1024')
def map_of_1024(quick: bool) -> Comparison:
    """The map of B/16 at 1024 px."""
    return _streamed(quick, 64)
