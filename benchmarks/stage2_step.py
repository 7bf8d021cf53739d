"""A whole step of R-SC-CLIPSelf, and each of its levers alone."""

from __future__ import annotations

from functools import partial
from typing import Any

from . import scenes
from .harness import Comparison, Goal, Numbers
from .published import Ways, stage2_losses
from .registry import benchmark

SHARED_PIXELS = 'both sides get the same pixels; forward and backward, no optimizer'
TOLERANCES = dict(loss_rla=1e-5, loss_scd=1e-5, first_block_grad=1e-3, last_block_grad=1e-3)
GOALS = (Goal('speedup', at_least=1.5), Goal('memory', at_most=0.6))


def _ours(model: Any, data: dict[str, Any]) -> Numbers:
    losses = model(**model.data_preprocessor(data, True), mode='loss')
    return scenes.backward_numbers(model, losses, model.student.visual.blocks)


def _plain(model: Any, data: dict[str, Any], ways: Ways) -> Numbers:
    losses = stage2_losses(model, data, ways)
    return scenes.backward_numbers(model, losses, model.student.visual.blocks)


def _model(quick: bool, depth: int | None) -> Any:
    if quick:
        return scenes.alignment(scenes.TOY, 2, 64, 32, num_refiner_blocks=1)
    return scenes.alignment(scenes.BASE, depth, 560, 224)


def _step(quick: bool, depth: int | None, ways: Ways, **kwargs: Any) -> Comparison:
    model = _model(quick, depth)
    grids = [(2, 2), (1, 2)] if quick else [(5, 4), (2, 3)]  # 26: twice the mean of the sampler
    data = scenes.raw_batch(grids)
    return Comparison(
        published=partial(_plain, model, data, ways),
        ours=partial(_ours, model, data),
        setting=f'{depth or 12} blocks of EVA-02 B/16, 560 px, 2 images, 26 crops of 224 px, '
        f'float32; {SHARED_PIXELS}',
        bound='crops, teacher and the linear layers of the student cost the same on both sides',
        tolerances=TOLERANCES,
        goals=GOALS,
        **kwargs,
    )


@benchmark('stage2-step')
def whole_step(quick: bool) -> Comparison:
    """The goal as it is set: separate forwards, eager attention, loops over regions.

    One pair, for its minutes; row levers-together repeats it at a third of the depth.
    """
    return _step(quick, None, Ways(device_crops=True), repeats=2 if quick else 0)


@benchmark('stage2-step-one-forward')
def strict_step(quick: bool) -> Comparison:
    """Against a plain way that wastes no forward: the student runs once for both losses."""
    return _step(quick, 4, Ways(device_crops=True, one_forward=True), repeats=2)


def _lever(quick: bool, better: Ways, bound: str, pixels_differ: bool = False) -> Comparison:
    model = _model(quick, 4)
    data = scenes.raw_batch([(2, 2)] if quick else [(3, 4)])
    # Pillow rounds to 8 bits in between, so that losses differ by more than float32's rounding.
    tolerances = dict.fromkeys(TOLERANCES, 0.05) if pixels_differ else TOLERANCES
    return Comparison(
        published=partial(_plain, model, data, Ways()),
        ours=partial(_plain, model, data, better),
        setting='the plain step with this lever alone; 4 blocks of EVA-02 B/16, 560 px, 1 image, '
        '12 crops of 224 px, float32, forward and backward',
        bound=bound,
        tolerances=tolerances,
        repeats=3,
    )


@benchmark('lever-one-forward')
def one_forward(quick: bool) -> Comparison:
    """One student forward for both losses."""
    return _lever(quick, Ways(one_forward=True), 'saves one of two student passes, nothing else')


@benchmark('lever-sdpa')
def sdpa(quick: bool) -> Comparison:
    """Fused attention in student, teacher and crops."""
    return _lever(quick, Ways(sdpa=True), 'attention is a fifth of the FLOPs at 1,226 tokens')


@benchmark('lever-batched-losses')
def batched_losses(quick: bool) -> Comparison:
    """Losses over all regions at once."""
    return _lever(
        quick,
        Ways(batched_losses=True),
        'the losses are below 1 % of a step on a CPU; on a GPU it saves launches',
    )


@benchmark('lever-device-crops')
def device_crops(quick: bool) -> Comparison:
    """Crops cut and resized by one antialiased resize per size, in place of Pillow."""
    return _lever(
        quick,
        Ways(device_crops=True),
        'pixels are below 1 % of a step on a CPU; it frees the loader (row loader)',
        pixels_differ=True,
    )


@benchmark('levers-together')
def together(quick: bool) -> Comparison:
    """All of them: the package's own step."""
    model = _model(quick, 4)
    data = scenes.raw_batch([(2, 2)] if quick else [(3, 4)])
    return Comparison(
        published=partial(_plain, model, data, Ways()),
        ours=partial(_ours, model, data),
        setting='the plain step with all levers; sizes as for one lever',
        bound='as in row stage2-step',
        tolerances=dict.fromkeys(TOLERANCES, 0.05),
        repeats=3,
    )
