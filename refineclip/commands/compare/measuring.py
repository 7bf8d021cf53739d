"""Measure one row: an encoder that was trained, or one that costs nothing."""

from __future__ import annotations

import time
from typing import Any

from refineclip.distill.hooks.weight_ensemble_hook import blend_state
from refineclip.encoders.weights.checkpoint_file import read_content
from refineclip.evaluation.encoders import ShiftAveraging, TappedEncoder

from .job import Job
from .recipes import recipe
from .suite import Method
from .training import build_encoder


def measure(job: Job, name: str, seed: int) -> dict[str, Any]:
    """Measure a row.

    Args:
        job: The comparison.
        name: Of the method.
        seed: Of its training; rows without one do not look at it.

    Returns:
        ``scores`` by measure, ``seconds``.
    """
    started = time.perf_counter()
    encoder = row_encoder(job, job.suite.methods[name], seed)
    scores = job.source.score(encoder)
    wanted = {key: scores[key] for key in job.suite['columns'] if key in scores}
    return dict(scores=wanted, seconds=round(time.perf_counter() - started, 1))


def row_encoder(job: Job, method: Method, seed: int) -> Any:
    """Build what a row is measured with.

    Raises:
        ValueError: If the trained weights are not those of the encoder.
    """
    if method.trains:
        return _trained(job, method, seed)
    if method.blend:
        of = job.suite.methods[method.blend['of']]
        encoder, alpha = _trained(job, of, seed), float(method.blend['alpha'])
        start = build_encoder(job, of, recipe(job, of, seed)).state_dict()
        encoder.load_state_dict(blend_state(encoder.state_dict(), start, alpha))
        return encoder
    frozen = Method('frozen', '', '', job.suite['frozen'], encoder=method.encoder)
    encoder = build_encoder(job, frozen, recipe(job, frozen, seed))
    if method.block is not None:
        depth = encoder.visual.num_blocks
        block = method.block if method.block >= 0 else depth + method.block
        return TappedEncoder(encoder.visual, block)
    return encoder if method.shifts is None else ShiftAveraging(encoder, method.shifts)


def _trained(job: Job, method: Method, seed: int) -> Any:
    encoder = build_encoder(job, method, recipe(job, method, seed))
    file = job.encoder_file(method, seed)
    try:
        encoder.load_state_dict(read_content(file)['state_dict'])
    except RuntimeError as error:
        raise ValueError(
            f'{method.name}: expected the weights of its encoder in {file}, got others: {error}'
        ) from error
    return encoder
