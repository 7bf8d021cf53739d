"""Muon by name: which parameters it takes, and that configs build it."""

from __future__ import annotations

import torch
from mmengine.optim import build_optim_wrapper
from timm.optim import Muon

import refineclip.distill.muon  # noqa: F401  (registers)
from refineclip.encoders import build_clip

CONFIG = dict(
    constructor='MuonOptimWrapperConstructor',
    optimizer=dict(
        type='Muon', lr=0.02, adjust_lr_fn='original', fallback_lr_scale=0.1, weight_decay=0.0
    ),
    paramwise_cfg=dict(norm_decay_mult=0.0, bias_decay_mult=0.0),
)


def test_matrices_of_blocks_are_muons_and_all_else_adamws():
    clip = build_clip('microworld-clip')
    optimizer = build_optim_wrapper(clip, CONFIG).optimizer
    assert isinstance(optimizer, Muon)
    names = {id(parameter): name for name, parameter in clip.named_parameters()}
    own = {names[id(g['params'][0])] for g in optimizer.param_groups if not g['use_fallback']}
    assert len(optimizer.param_groups) == len(names)
    assert all('.resblocks.' in name for name in own)
    assert {name.rsplit('.', 1)[-1] for name in own} == {'weight', 'in_proj_weight'}
    # Attention in and out, and two of the MLP, of five blocks and of two.
    assert len(own) == 4 * (5 + 2)


def test_a_step_is_orthogonal_for_matrices_only():
    clip = build_clip('microworld-clip')
    wrapper = build_optim_wrapper(clip, CONFIG)
    image, text = clip(torch.randn(2, 3, 64, 64)), clip.text(clip.tokenizer(['a fish', 'a cup']))
    before = {name: parameter.detach().clone() for name, parameter in clip.named_parameters()}
    wrapper.update_params((image @ text.T).sum())
    changes = {n: parameter.detach() - before[n] for n, parameter in clip.named_parameters()}
    matrix = next(value for name, value in changes.items() if name.endswith('c_proj.weight'))
    spectrum = torch.linalg.svdvals(matrix)
    assert 0.7 * 0.02 < spectrum.max() < 1.3 * 0.02
    assert (spectrum > 0.5 * spectrum.max()).sum() > 50  # a gradient's falls off at once
    vector = next(value for name, value in changes.items() if name.endswith('ln_post.weight'))
    # AdamW's first step is its rate, whatever the gradient.
    torch.testing.assert_close(vector.abs().max(), torch.tensor(0.002), rtol=1e-2, atol=0)
