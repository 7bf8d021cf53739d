"""Dense modes that replace several blocks, or that need a tower of their own kind."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from refineclip.encoders import RefinerCLIP
from refineclip.encoders.towers import dense_modes
from refineclip.encoders.towers.dense_modes import dense_mode, fit_tower, num_blocks_of_mode
from tests.test_distill.toys import PATCH, SIZE, TOWER


@pytest.fixture
def register() -> Iterator[None]:
    """Forget afterwards what a test registers."""
    before = dict(dense_modes._MODES)
    yield
    dense_modes._MODES.clear()
    dense_modes._MODES.update(before)


def add_gate(visual):
    visual.blocks[-1].toy_gate = nn.Linear(visual.width, visual.width)


def add_border(visual):
    visual.border = 2


def images(count: int = 2, height: int = SIZE, width: int = SIZE) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(count, 3, height, width, generator=generator)


@pytest.mark.usefixtures('register')
def test_a_mode_of_two_blocks_sees_both_and_what_was_before_them():
    @dense_mode('two-blocks', num_blocks=2)
    def two_blocks(views, tokens):
        assert len(views) == 2
        return views[1].forward(views[0].forward(tokens))

    assert num_blocks_of_mode('two-blocks') == 2
    torch.manual_seed(0)
    encoder = RefinerCLIP(TOWER, dense_mode='two-blocks', out_indices=(0, 1, 2))
    assert encoder.trunk_depth == 1
    plain = encoder.visual.dense(images(), 'plain')
    torch.testing.assert_close(encoder.dense(images()), plain)
    torch.testing.assert_close(encoder.visual.dense(images(), 'two-blocks'), plain)
    assert [tuple(one.shape) for one in encoder(images())] == [(2, 16, 4, 4)] * 3
    # A Refiner needs as many blocks as the mode replaces.
    with pytest.raises(ValueError, match='replaces the last 2 blocks: expected tokens before'):
        RefinerCLIP(TOWER, dense_mode='two-blocks', refiner=dict(num_blocks=1)).dense(images())
    refined = RefinerCLIP(TOWER, dense_mode='two-blocks', refiner=dict(num_blocks=2))
    torch.testing.assert_close(
        refined.dense(images()), refined.visual.dense(images(), 'two-blocks')
    )


@pytest.mark.usefixtures('register')
def test_what_a_mode_adds_to_a_block_is_saved_trained_and_loaded_with_it():
    @dense_mode('toy-gated', fit_tower=add_gate)
    def toy_gated(view, tokens):
        return view.block.toy_gate(tokens)

    encoder = RefinerCLIP(TOWER, dense_mode='toy-gated', frozen=False, trainable_blocks=1)
    name = 'visual.model.transformer.resblocks.2.toy_gate.weight'
    assert name in encoder.state_dict()
    assert dict(encoder.named_parameters())[name].requires_grad
    other = RefinerCLIP(TOWER, dense_mode='toy-gated')
    other.load_state_dict(encoder.state_dict(), strict=True)
    torch.testing.assert_close(other.dense(images()), encoder.dense(images()))
    # Once only, and never by chance.
    gate = encoder.visual.blocks[-1].toy_gate
    fit_tower('toy-gated', encoder.visual)
    assert encoder.visual.blocks[-1].toy_gate is gate
    with pytest.raises(ValueError, match=r"needs a tower that is fitted to it.*'toy-gated'"):
        RefinerCLIP(TOWER).visual.dense(images(), 'toy-gated')


@pytest.mark.usefixtures('register')
@pytest.mark.parametrize('size', [(SIZE, SIZE), (2 * PATCH, 5 * PATCH)])
def test_a_border_is_seen_by_tokens_and_by_no_map(size):
    @dense_mode('toy-border', fit_tower=add_border)
    def toy_border(view, tokens):
        return view.forward(tokens)

    encoder = RefinerCLIP(TOWER, dense_mode='toy-border', out_indices=(0, 2))
    plain = RefinerCLIP(TOWER, dense_mode='plain')
    plain.load_state_dict(encoder.state_dict(), strict=True)
    x = images(2, *size)
    grid = size[0] // PATCH, size[1] // PATCH
    tokens, bordered = encoder.visual.embed(x)
    assert bordered == (grid[0] + 4, grid[1] + 4)
    assert tokens.shape[1] == 1 + bordered[0] * bordered[1]
    # The map is the middle of what the plain tower says of the padded image.
    padded = plain.dense(F.pad(x, [2 * PATCH] * 4))
    torch.testing.assert_close(encoder.dense(x), padded[..., 2:-2, 2:-2])
    assert [tuple(one.shape[2:]) for one in encoder(x)] == [grid, grid]
    # The image embedding is the library's own, and the border is told in the print.
    torch.testing.assert_close(encoder.image_embedding(x), plain.image_embedding(x))
    assert 'border=2' in repr(encoder.visual)
    assert 'border' not in repr(plain.visual)


def test_a_mode_of_no_block_is_refused():
    with pytest.raises(ValueError, match='num_blocks: expected 1 or more, got 0'):
        dense_mode('none', num_blocks=0)
