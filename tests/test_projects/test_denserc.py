"""DenseRC: the gated value map by hand, its two losses, and what a step moves."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.optim import OptimWrapper
from mmengine.registry import MODELS
from torch import nn

import projects.denserc.denserc  # noqa: F401  (registers DenseRC and its dense modes)
from projects.denserc.denserc.gated_values import gated_sum
from refineclip.distill.losses import shows_picture
from refineclip.encoders import RefinerCLIP
from refineclip.evaluation.encoders import load_encoders
from tests.test_distill.toys import PREPROCESSOR, STUDENT, TOWER, raw_batch, region_batch

MODES = ('gated-values', 'gated-values-residual')
CORRELATION = dict(type='CorrelationLoss', distance='mse', loss_weight=0.025)
# Another patch, width and grid than the student's.
VISION = dict(
    type='RefinerCLIP',
    model={
        **TOWER,
        'vision_cfg': dict(image_size=16, layers=2, width=24, head_width=8, patch_size=4),
    },
    dense_mode='plain',
)


def build(**kwargs: Any) -> Any:
    torch.manual_seed(0)
    config = dict(
        type='DenseRC',
        student={**STUDENT, 'dense_mode': 'gated-values'},
        rla=dict(type='CLIPSelfLoss'),
        correlation=CORRELATION,
        vision_model=VISION,
        data_preprocessor=PREPROCESSOR,
    )
    return MODELS.build({**config, **kwargs}).train()


def gate_of(encoder: RefinerCLIP) -> nn.Linear:
    return encoder.visual.blocks[-1].value_gate


def turn_gate(encoder: RefinerCLIP, seed: int = 0) -> None:
    """Give each token and head another gate."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in gate_of(encoder).parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))


def by_hand(encoder: RefinerCLIP, images: torch.Tensor) -> torch.Tensor:
    """The sum over three blocks (B, N, W), head by head, from the library's parameters."""
    visual, gate = encoder.visual, gate_of(encoder)
    tokens, _ = visual.embed(images)
    total: Any = 0
    for block in visual.blocks:
        weight, bias = (x.chunk(3)[2] for x in (block.attn.in_proj_weight, block.attn.in_proj_bias))
        normed = block.ln_1(tokens)
        values = F.linear(normed, weight, bias)
        shares = torch.sigmoid(normed @ gate.weight.T + gate.bias)
        heads = values.split(8, dim=-1)
        gated = torch.cat([head * shares[..., i : i + 1] for i, head in enumerate(heads)], dim=-1)
        total = total + block.attn.out_proj(gated)
        tokens = block(tokens)
    return total


def test_map_by_hand():
    torch.manual_seed(0)
    encoder = RefinerCLIP(TOWER, dense_mode='gated-values')
    turn_gate(encoder)
    images = torch.randn(2, 3, 32, 48)
    expected = encoder.visual.to_map(encoder.visual.project(by_hand(encoder, images)), (4, 6))
    torch.testing.assert_close(encoder.dense(images), expected)
    assert encoder.trunk_depth == 0


def test_gates_start_as_one_half_which_is_a_plain_sum():
    torch.manual_seed(0)
    encoder = RefinerCLIP(TOWER, dense_mode='gated-values')
    images = torch.randn(1, 3, 32, 32)
    half = encoder.dense(images)
    with torch.no_grad():  # all gates open: twice the sum, the same after the norm
        gate_of(encoder).bias.fill_(30.0)
    torch.testing.assert_close(encoder.dense(images), half, rtol=1e-3, atol=1e-3)


def test_values_mix_no_tokens():
    torch.manual_seed(0)
    encoder = RefinerCLIP(TOWER, dense_mode='gated-values')
    turn_gate(encoder)
    visual = encoder.visual
    tokens, grid = visual.embed(torch.randn(1, 3, 32, 32))
    views = [visual.block_view(i, grid) for i in range(3)]
    other = tokens.clone()
    other[:, 5] += 1
    # Of a single block, a token that changes changes itself alone.
    changed = (gated_sum(views[-1:], tokens)[0] - gated_sum(views[-1:], other)[0]).abs().amax(-1)
    assert changed[0].nonzero().flatten().tolist() == [5]


def test_residual_map_is_the_block_around_the_sum():
    torch.manual_seed(0)
    encoder = RefinerCLIP(TOWER, dense_mode='gated-values-residual')
    turn_gate(encoder)
    visual, images = encoder.visual, torch.randn(1, 3, 32, 32)
    tokens, grid = visual.embed(images)
    before = visual.run(tokens, grid, 0, 2)
    mixed = before + by_hand(encoder, images)
    block = visual.blocks[-1]
    expected = visual.to_map(visual.project(mixed + block.mlp(block.ln_2(mixed))), grid)
    torch.testing.assert_close(encoder.dense(images), expected)


@pytest.mark.parametrize('mode', MODES)
def test_a_step_moves_blocks_and_gate_and_no_teacher(mode):
    model = build(student={**STUDENT, 'dense_mode': mode})
    before = copy.deepcopy(model.state_dict())
    model.train_step(raw_batch(), OptimWrapper(torch.optim.SGD(model.parameters(), lr=1.0)))
    changed = {k for k, value in model.state_dict().items() if not torch.equal(value, before[k])}
    assert all(name.startswith('student.visual.model.transformer.resblocks.') for name in changed)
    assert any(name.endswith('value_gate.weight') for name in changed)
    assert {name.split('.')[5] for name in changed} == {'0', '1', '2'}


def test_losses_by_hand():
    model = build()
    turn_gate(model.student)
    batch = region_batch(model)
    losses = model(batch, mode='loss')
    assert {name for name in losses if name.startswith('loss')} == {'loss_rla', 'loss_scd'}
    student = model.student.dense(batch.images)
    target = model.teacher_features(batch)['map']
    assert target.shape[-2:] == student.shape[-2:] == (4, 4)
    valid = shows_picture(batch.pictures, (4, 4))
    images = []
    for index in range(len(batch)):
        own, other = (
            F.normalize(x[index].flatten(1).T[valid[index]], dim=1) for x in (student, target)
        )
        images.append((own @ own.T - other @ other.T).square().mean())
    torch.testing.assert_close(losses['loss_scd'], 0.025 * torch.stack(images).mean())


def test_what_is_trained_is_what_is_measured(tmp_path: Path):
    """A plain RefinerCLIP of the mode takes the weights, gate and all, and gives the same map."""
    model = build()
    turn_gate(model.student)
    images = region_batch(model).images
    other = MODELS.build({**STUDENT, 'dense_mode': 'gated-values'})
    other.load_state_dict(model.student.state_dict(), strict=True)
    trained = model(region_batch(model), mode='tensor')
    torch.testing.assert_close(other.dense(images), trained)
    path = tmp_path / 'refined_iter_1.pth'
    torch.save(dict(state_dict=model.student.state_dict()), path)
    loaded = load_encoders({'denserc': str(path)}, TOWER, dense_mode='gated-values')['denserc']
    torch.testing.assert_close(loaded.dense(images), other.dense(images))
    with pytest.raises(ValueError, match='value_gate'):  # the mode has to be named
        load_encoders({'denserc': str(path)}, TOWER)


@pytest.mark.parametrize(
    ('options', 'error', 'message'),
    [
        (dict(student=STUDENT), ValueError, r"expected 'gated-values' or .*, got 'value'"),
        (dict(correlation=dict(type='SCDLoss')), TypeError, 'a CorrelationLoss, got SCDLoss'),
        (
            dict(student={**STUDENT, 'refiner': dict(num_blocks=1)}),
            ValueError,
            'without a Refiner',
        ),
    ],
)
def test_wrong_input(options, error, message):
    with pytest.raises(error, match=message):
        build(**options)


def test_a_tower_of_two_blocks_is_too_shallow():
    tower = {**TOWER, 'vision_cfg': {**TOWER['vision_cfg'], 'layers': 2}}
    with pytest.raises(ValueError, match='sums 3 blocks: expected a tower of as many'):
        RefinerCLIP(tower, dense_mode='gated-values')


def test_configs_differ_in_the_map_alone(repo_root: Path):
    paths = sorted((repo_root / 'projects/denserc/configs').glob('*.py'))
    assert len(paths) == 5
    for path in paths:
        model = Config.fromfile(path).model
        assert model.student.dense_mode == MODES['-residual' in path.stem]
        assert model.correlation.to_dict() == CORRELATION
