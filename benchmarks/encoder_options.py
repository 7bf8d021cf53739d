"""Options of the encoder and the optimizer that change cost and not results."""

from __future__ import annotations

import shutil
from functools import partial
from typing import Any

import torch
from torch import Tensor

from refineclip.encoders import RefinerCLIP

from . import scenes
from .harness import Comparison, Numbers, Skipped
from .registry import benchmark


def _student(quick: bool, **kwargs: Any) -> RefinerCLIP:
    tower, depth = (scenes.TOY, 2) if quick else (scenes.BASE, 4)
    config = scenes.encoder(tower, depth, frozen=False, **kwargs)
    return scenes.build(config)


def _pass(student: RefinerCLIP, images: Tensor) -> Numbers:
    loss = student.dense(images).square().mean()
    return scenes.backward_numbers(student, dict(loss=loss), student.visual.blocks)


def _students(quick: bool, setting: str, bound: str, memory: bool, **option: Any) -> Comparison:
    plain, other = _student(quick), _student(quick, **option)
    side = 32 if quick else 560
    images = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(0))
    return Comparison(
        published=partial(_pass, plain, images),
        ours=partial(_pass, other, images),
        setting=f'{setting}; 4 blocks of EVA-02 B/16, 560 px, 1 image, float32, forward and '
        'backward',
        bound=bound,
        tolerances=dict(loss=1e-5, first_block_grad=1e-3, last_block_grad=1e-3),
        memory=memory,
    )


@benchmark('with-cp')
def with_cp(quick: bool) -> Comparison:
    """Activation checkpointing: memory for time."""
    return _students(
        quick,
        'with_cp=True against False',
        'a second forward pass; memory is the activations of one block and the gradients',
        memory=True,
        with_cp=True,
    )


@benchmark('compile')
def compiled(quick: bool) -> Comparison:
    """Blocks compiled one by one."""
    if shutil.which('c++') is None:
        raise Skipped('torch.compile needs a C++ compiler on a CPU, got no c++')
    return _students(
        quick,
        'compile_blocks=dict() against None (compilation itself not counted)',
        'matrix products and attention, which the compiler leaves to the same libraries',
        memory=False,
        compile_blocks={},
    )


@benchmark('fused-adamw')
def fused_adamw(quick: bool) -> Comparison:
    """One optimizer step over the parameters of a ViT-B/16."""
    sizes = [(8, 8)] * 4 if quick else [(3072, 768), (768, 3072), (2304, 768), (768, 768)] * 12
    generator = torch.Generator().manual_seed(0)
    values = [0.02 * torch.randn(size, generator=generator) for size in sizes]
    grads = [torch.randn(size, generator=generator) for size in sizes]

    def step(fused: bool) -> Numbers:
        parameters = [torch.nn.Parameter(value.clone()) for value in values]
        optimizer = torch.optim.AdamW(parameters, lr=1e-3, foreach=False, fused=fused)
        for parameter, grad in zip(parameters, grads, strict=True):
            parameter.grad = grad
        optimizer.step()
        return dict(weights=torch.cat([p.detach().flatten() for p in parameters]))

    return Comparison(
        published=partial(step, False),
        ours=partial(step, True),
        setting='85 M parameters, float32; the first step, which also makes the state',
        bound='memory bandwidth',
        tolerances=dict(weights=1e-6),
        memory=False,
    )
