"""How a batch is laid out: padded to squares or not, at once or in turns."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch

from . import scenes
from .harness import Comparison, Numbers
from .registry import benchmark


def _model(quick: bool) -> Any:
    if quick:
        return scenes.alignment(scenes.TOY, 2, 64, 32, num_refiner_blocks=1)
    return scenes.alignment(scenes.BASE, 4, 560, 224)


def _step(model: Any, batches: list[dict[str, Any]], divisor: int | None) -> Numbers:
    """Gradients and losses of one optimizer step over several batches of equal weight."""
    model.data_preprocessor.pad_size_divisor = divisor
    totals: dict[str, torch.Tensor] = {}
    for data in batches:
        losses = model(**model.data_preprocessor(data, True), mode='loss')
        parts = {n: v / len(batches) for n, v in losses.items() if n.startswith('loss')}
        torch.stack(list(parts.values())).sum().backward()
        for name, value in parts.items():
            totals[name] = totals.get(name, 0) + value.detach()
    block = model.student.visual.blocks[0]
    grads = [p.grad.flatten() for p in block.parameters() if p.grad is not None]
    totals['first_block_grad'] = torch.cat(grads)
    model.zero_grad(set_to_none=True)
    return totals


def _half(data: dict[str, Any], index: int) -> dict[str, Any]:
    return {name: values[index : index + 1] for name, values in data.items()}


@benchmark('fitted-canvas')
def fitted_canvas(quick: bool) -> Comparison:
    """No padding: the canvas is cut down to what its 4:3 pictures cover."""
    model = _model(quick)
    data = scenes.raw_batch([(2, 2), (1, 2)] if quick else [(3, 4), (3, 4)])
    patch = model.student.visual.patch_size

    def regions(divisor: int | None) -> Numbers:
        _step(model, [data], divisor)
        # Padding takes part in attention: the two sides differ, and only the work is compared.
        return dict(regions=torch.tensor(float(sum(map(len, data['boxes'])))))

    return Comparison(
        published=partial(regions, None),
        ours=partial(regions, patch),
        setting='pad_size_divisor=16 against a square canvas: 26 x 35 tokens for 35 x 35; 4 blocks '
        'of EVA-02 B/16, 560 px, 2 images of 4:3, 24 crops of 224 px, float32, forward and '
        'backward. Losses differ, and are not compared',
        bound='26 / 35 of the tokens of student and teacher; crops cost the same',
        tolerances=dict(regions=0.0),
        repeats=3,
    )


@benchmark('accumulation')
def accumulation(quick: bool) -> Comparison:
    """Two images in turns instead of at once: memory, at the same gradient."""
    model = _model(quick)
    data = scenes.raw_batch([(2, 2), (2, 2)] if quick else [(3, 4), (3, 4)])
    return Comparison(
        published=partial(_step, model, [data], None),
        ours=partial(_step, model, [_half(data, 0), _half(data, 1)], None),
        setting='2 x 1 image against 1 x 2 images; 4 blocks of EVA-02 B/16, 560 px, 24 crops of '
        '224 px, float32, forward and backward',
        bound='gradients and weights do not shrink with the batch',
        tolerances=dict(loss_rla=1e-5, loss_scd=1e-5, first_block_grad=1e-3),
        repeats=3,
    )
