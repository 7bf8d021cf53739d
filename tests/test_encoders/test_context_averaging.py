"""Averaging a target's tokens over canvases that it shares with context images."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from refineclip.encoders.build import build_clip
from refineclip.encoders.context_averaging import context_averaged_map


class PatchMean(nn.Module):
    """Every token is its patch's mean colour plus a share of the canvas's mean colour."""

    patch_size = 2

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share
        self.canvases: list[torch.Tensor] = []

    def dense(self, images, mode='value', normalize=False):
        self.canvases.append(images)
        dense = F.avg_pool2d(images, self.patch_size)
        dense = dense + self.share * dense.mean(dim=(2, 3), keepdim=True)
        return F.normalize(dense, dim=1) if normalize else dense


@pytest.fixture(scope='module')
def visual():
    torch.manual_seed(0)
    vision = dict(image_size=32, layers=2, width=16, head_width=8, patch_size=8)
    text = dict(context_length=8, vocab_size=64, width=16, heads=2, layers=1)
    config = dict(embed_dim=12, vision_cfg=vision, text_cfg=text)
    return build_clip(config, text=False).visual.eval()


def test_an_encoder_without_context_gives_its_own_map():
    encoder = PatchMean(share=0.0)
    target, contexts = torch.rand(2, 3, 4, 6), torch.rand(5, 3, 4, 6)
    averaged = context_averaged_map(encoder, target, contexts)
    assert averaged.shape == (2, 3, 2, 3)
    torch.testing.assert_close(averaged, encoder.dense(target, normalize=True))


def test_target_and_context_by_hand():
    """One red patch beside one green or one blue context patch, each leaking half its share."""
    encoder = PatchMean(share=1.0)
    red, green, blue = (torch.eye(3)[i].view(1, 3, 1, 1).expand(1, 3, 2, 2) for i in range(3))
    averaged = context_averaged_map(encoder, red, torch.cat([green, blue])).flatten()
    # Token of red: (1, 0, 0) + mean of canvas (.5, .5, 0) = (3, 1, 0) / 2, unit: / sqrt(10). The
    # other canvas gives (3, 0, 1) / sqrt(10). Mean direction (6, 1, 1) / sqrt(38).
    torch.testing.assert_close(averaged, torch.tensor([6.0, 1.0, 1.0]) / 38**0.5)


def test_both_sides_are_used_and_the_target_is_never_lost():
    encoder = PatchMean(share=0.0)
    target, contexts = torch.ones(1, 3, 2, 4), torch.zeros(16, 3, 2, 4)
    averaged = context_averaged_map(
        encoder, target, contexts, generator=torch.Generator().manual_seed(0)
    )
    left = [bool(canvas[0, 0, 0, 0] == 1) for canvas in encoder.canvases]
    assert 0 < sum(left) < 16
    assert all(canvas.shape == (1, 3, 2, 8) for canvas in encoder.canvases)
    torch.testing.assert_close(averaged, torch.full((1, 3, 1, 2), 3**-0.5))


def test_the_generator_decides_the_sides():
    def sides(seed: int) -> list[bool]:
        encoder = PatchMean(share=0.0)
        generator = torch.Generator().manual_seed(seed)
        context_averaged_map(
            encoder, torch.ones(1, 3, 2, 2), torch.zeros(16, 3, 2, 2), generator=generator
        )
        return [bool(canvas[0, 0, 0, 0] == 1) for canvas in encoder.canvases]

    assert sides(1) == sides(1)
    assert sides(1) != sides(2)


def test_real_tower_unit_tokens_without_gradient(visual):
    target, contexts = torch.randn(2, 3, 16, 32), torch.randn(3, 3, 16, 32)
    averaged = context_averaged_map(visual, target, contexts)
    assert averaged.shape == (2, 12, 2, 4)
    assert not averaged.requires_grad
    torch.testing.assert_close(averaged.norm(dim=1), torch.ones(2, 2, 4))


def test_one_context_is_one_canvas(visual):
    target, context = torch.randn(1, 3, 32, 32), torch.randn(1, 3, 32, 32)
    averaged = context_averaged_map(visual, target, context)
    with torch.no_grad():
        as_left = visual.dense(torch.cat([target, context], dim=3), normalize=True)[..., :4]
        as_right = visual.dense(torch.cat([context, target], dim=3), normalize=True)[..., 4:]
    assert min((averaged - one).abs().max() for one in (as_left, as_right)) < 1e-6


@pytest.mark.parametrize('contexts', [torch.zeros(0, 3, 32, 32), torch.zeros(1, 3, 32, 16)])
def test_contexts_that_do_not_fit(visual, contexts):
    with pytest.raises(ValueError, match='expected at least one context image of the size'):
        context_averaged_map(visual, torch.zeros(1, 3, 32, 32), contexts)


def test_unknown_mode(visual):
    with pytest.raises(ValueError, match='nonsense'):
        context_averaged_map(
            visual, torch.zeros(1, 3, 32, 32), torch.zeros(1, 3, 32, 32), 'nonsense'
        )
