"""From one stride to the strides and channels of a stock neck."""

from __future__ import annotations

import pytest
import torch
from mmengine.registry import MODELS

import refineclip.encoders  # noqa: F401
from refineclip.encoders.map_pyramid import MapPyramid, resize

TOY = dict(
    embed_dim=12,
    vision_cfg=dict(image_size=32, layers=3, width=16, head_width=8, patch_size=16),
    text_cfg=dict(context_length=8, vocab_size=64, width=16, heads=2, layers=1),
)


def test_nothing_asked_nothing_done():
    pyramid = MapPyramid(in_channels=4, patch_size=16)
    maps = [torch.randn(1, 4, 3, 5), torch.randn(1, 4, 3, 5)]
    outputs = pyramid(maps)
    assert all(torch.equal(got, given) for got, given in zip(outputs, maps, strict=True))
    assert list(pyramid.parameters()) == []


def test_strides_decide_the_sizes():
    pyramid = MapPyramid(in_channels=4, patch_size=16, strides=(4, 8, 16, 32))
    outputs = pyramid([torch.randn(2, 4, 6, 10)] * 4)
    assert [tuple(o.shape) for o in outputs] == [
        (2, 4, 24, 40),
        (2, 4, 12, 20),
        (2, 4, 6, 10),
        (2, 4, 3, 5),
    ]


@pytest.mark.parametrize(
    ('stride', 'expected'),
    [
        # Bilinear at twice the size: cell centres at -.25, .25, .75, 1.25 of the input, clamped.
        (8, [[0.0, 1.0, 3.0, 4.0]] * 2),
        (16, [[0.0, 4.0]]),
        (32, [[2.0]]),
    ],
)
def test_values_by_hand(stride, expected):
    one = torch.tensor([[[[0.0, 4.0]]]])
    (output,) = MapPyramid(1, patch_size=16, strides=(stride,))([one])
    torch.testing.assert_close(output[0, 0], torch.tensor(expected))


def test_odd_sides_and_patch_14_never_vanish():
    assert resize(torch.ones(1, 1, 1, 1), 0.25).shape == (1, 1, 1, 1)
    (output,) = MapPyramid(1, patch_size=14, strides=(4,))([torch.ones(1, 1, 5, 3)])
    assert output.shape == (1, 1, 18, 10)  # round(5 * 3.5) = 18 (to even), round(10.5) = 10
    torch.testing.assert_close(output, torch.ones_like(output))


def test_projection_is_a_matrix_per_cell():
    pyramid = MapPyramid(in_channels=2, patch_size=16, channels=(3, 1))
    with torch.no_grad():
        pyramid.projections[0].weight.copy_(
            torch.tensor([[1.0, 0], [0, 1], [1, 1]])[..., None, None]
        )
        pyramid.projections[0].bias.copy_(torch.tensor([0.0, 0.0, 10.0]))
    cell = torch.tensor([2.0, 3.0]).view(1, 2, 1, 1)
    first, second = pyramid([cell, cell])
    assert first.flatten().tolist() == [2, 3, 15]
    assert second.shape == (1, 1, 1, 1)


@pytest.mark.parametrize('wrong', [dict(strides=(8, 16)), dict(channels=(3, 4))])
def test_number_of_maps_must_fit(wrong):
    with pytest.raises(ValueError, match='zip'):
        MapPyramid(in_channels=2, patch_size=16, **wrong)([torch.randn(1, 2, 4, 4)])


def test_gradient_reaches_the_projections_over_a_frozen_encoder():
    backbone = MODELS.build(
        dict(
            type='RefinerCLIP',
            model=TOY,
            out_indices=(0, 1, 2),
            out_strides=(8, 16, 32),
            out_channels=(5, 6, 7),
        )
    )
    outputs = backbone(torch.randn(1, 3, 64, 96))
    assert [tuple(o.shape) for o in outputs] == [(1, 5, 8, 12), (1, 6, 4, 6), (1, 7, 2, 3)]
    sum(output.square().mean() for output in outputs).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in backbone.pyramid.parameters())
    assert all(p.grad is None for p in backbone.visual.parameters())
