"""Stage 1, K = 2: the frozen trunk shared between heads, and cached between epochs."""

from __future__ import annotations

import tempfile
from typing import Any

import torch
import torch.nn.functional as F

from refineclip.distill.roi_ops import pool_tokens

from . import scenes
from .harness import Comparison, Goal, Numbers
from .registry import benchmark

NUM_REFINER_BLOCKS = 2
TOLERANCES = dict(loss_refine=1e-5, first_block_grad=1e-3, last_block_grad=1e-3)
GOALS = (Goal('speedup', at_least=1.5),)


def _model(quick: bool, target: str, cache_dir: str | None = None) -> Any:
    tower, depth, size = (scenes.TOY, 3, 32) if quick else (scenes.BASE, None, 224)
    refiner = dict(num_blocks=NUM_REFINER_BLOCKS)
    return scenes.build(
        dict(
            type='RefinerTraining',
            data_preprocessor=scenes.preprocessor(size, size),
            encoder=scenes.encoder(tower, depth, dense_mode='value', refiner=refiner),
            # Without negatives, so that both sides need no random draw.
            loss=dict(type='RefineLoss', kind='cosine'),
            target=target,
            cache_dir=cache_dir,
        )
    )


def _step(model: Any, data: dict[str, Any]) -> Numbers:
    losses = model(**model.data_preprocessor(data, True), mode='loss')
    return scenes.backward_numbers(model, losses, model.encoder.refiner.blocks)


def _separate_step(model: Any, data: dict[str, Any]) -> Numbers:
    """The plain map and the Refiner's map of the same image, each with a pass of its own."""
    batch, encoder, size = model.data_preprocessor(data, True)['inputs'], model.encoder, 8
    with torch.no_grad():
        plain = encoder.visual.dense(batch.images, 'value')
        target = pool_tokens(F.normalize(plain, dim=1), batch.boxes, size)
    refined = encoder.dense(batch.images)
    tokens = pool_tokens(F.normalize(refined, dim=1), batch.boxes, size)
    loss = model.refine_loss(tokens, target, batch.boxes[:, 0])
    return scenes.backward_numbers(model, dict(loss_refine=loss), encoder.refiner.blocks)


@benchmark('stage1-shared-trunk')
def shared(quick: bool) -> Comparison:
    """One view feeds the plain map and the Refiner: 10 of 12 blocks run once instead of twice."""
    model = _model(quick, target='image')
    data = scenes.raw_batch([(2, 2)] * 2 if quick else [(2, 4)] * 8)
    return Comparison(
        published=lambda: _separate_step(model, data),
        ours=lambda: _step(model, data),
        setting="EVA-02 B/16, 224 px, 8 images, K = 2, target='image', float32; forward and "
        'backward, no optimizer',
        bound='(10 + 2 + 10 + 6) / (10 + 2 + 6) = 1.56 block passes, a backward counted as two',
        tolerances=TOLERANCES,
        goals=GOALS,
        memory=False,
    )


@benchmark('stage1-cached-trunk')
def cached(quick: bool) -> Comparison:
    """From the second epoch on with fixed regions: only the Refiner's blocks run."""
    folder = tempfile.TemporaryDirectory()
    live, from_disk = (_model(quick, 'crop', cache) for cache in (None, folder.name))
    data = scenes.raw_batch([(1, 2)] * 2 if quick else [(2, 4)] * 2)
    ready: list[str] = []

    def ours() -> Numbers:
        if not ready:  # the first epoch, which fills the cache; never timed
            ready.append(folder.name)
            _step(from_disk, data)
        return _step(from_disk, data)

    return Comparison(
        published=lambda: _step(live, data),
        ours=ours,
        setting="EVA-02 B/16, 224 px, 2 images with 8 regions each, K = 2, target='crop', float32; "
        'forward and backward, no optimizer',
        bound="the Refiner's own blocks, then reading the files",
        # The cache keeps float16.
        tolerances=dict(loss_refine=1e-3, first_block_grad=1e-2, last_block_grad=1e-2),
        goals=GOALS,
        memory=False,
    )
