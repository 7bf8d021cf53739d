"""The dense modes against formulas, and the registry of their names."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from refineclip.encoders.build import build_clip
from refineclip.encoders.towers import dense_modes
from refineclip.encoders.towers.blocks import BlockView
from refineclip.encoders.towers.dense_modes import dense_mode, get_dense_mode

from .dense_vit_tester import own_modes


class Line(BlockView):
    """One head of width 1: q = x, k = 2 x, v = x + 1, output doubles, the MLP adds 10."""

    num_heads = 1
    scale = 1.0

    def __init__(self) -> None:
        super().__init__(torch.nn.Identity())

    def forward(self, tokens: Tensor) -> Tensor:
        return -tokens

    def qkv(self, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        x = tokens[:, None]
        return x, 2 * x, x + 1

    def value(self, tokens: Tensor) -> Tensor:
        return self.qkv(tokens)[2]

    def output(self, mixed: Tensor) -> Tensor:
        return 2 * mixed[:, 0]

    def mlp(self, tokens: Tensor) -> Tensor:
        return torch.full_like(tokens, 10.0)


@pytest.mark.parametrize(
    ('mode', 'expected'),
    [
        ('plain', [0.0, -1.0]),
        # x + 2 (x + 1) + 10
        ('value', [12.0, 15.0]),
        # x_0 + 2 (x + 1) + 10, and x_0 is 0
        ('value-cls', [12.0, 14.0]),
        # 2 (x + 1)
        ('value-only', [2.0, 4.0]),
        # token 0 weighs both values 1/2: 2 * 1.5 + 10; token 1 weighs them e^0 : e^1
        ('query-query', [13.0, 1 + 2 * (1 * 0.26894142 + 2 * 0.73105858) + 10]),
        # the mix alone, without residual and MLP
        ('query-query-only', [3.0, 2 * (1 * 0.26894142 + 2 * 0.73105858)]),
        # as query-query with e^0 : e^4
        ('key-key', [13.0, 1 + 2 * (1 * 0.01798621 + 2 * 0.98201379) + 10]),
        # both mixes summed before the output
        ('self-self', [16.0, 1 + 2 * (1.73105858 + 1.98201379) + 10]),
    ],
)
def test_numbers_by_hand(mode: str, expected: list[float]) -> None:
    tokens = torch.tensor([[[0.0], [1.0]]])
    out = get_dense_mode(mode)(Line(), tokens)
    torch.testing.assert_close(out, torch.tensor(expected)[None, :, None], atol=1e-6, rtol=1e-6)


def test_names() -> None:
    expected = [
        *('key-key', 'plain', 'query-query', 'query-query-only', 'self-self'),
        *('value', 'value-cls', 'value-only'),
    ]
    assert own_modes() == expected
    with pytest.raises(ValueError, match=r"'key-key', 'plain'.*got 'valu'"):
        get_dense_mode('valu')


def test_new_mode_and_taken_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dense_modes, '_MODES', dict(dense_modes._MODES))

    @dense_mode('nothing')
    def nothing(block: BlockView, tokens: Tensor) -> Tensor:
        return tokens

    assert get_dense_mode('nothing') is nothing
    with pytest.raises(ValueError, match="got 'value', which exists"):
        dense_mode('value')(nothing)


def test_unknown_mode_fails_before_the_blocks_run(
    toy_configs: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    visual = build_clip(toy_configs['open_clip'], text=False).visual
    monkeypatch.setattr(visual, 'embed', lambda images: pytest.fail('ran'))
    with pytest.raises(ValueError, match='expected a dense mode'):
        visual.dense(torch.zeros(1, 3, 64, 64), 'values')


def test_values_do_not_mix(toy_configs: dict[str, Any]) -> None:
    """In value mode of the last block a token depends on itself only; attention modes mix."""
    visual = build_clip(toy_configs['open_clip'], text=False).visual
    tokens = torch.randn(1, 5, visual.width, requires_grad=True)
    last = visual.num_blocks - 1
    for mode in own_modes():
        out = visual.run_dense(tokens, (2, 2), last, mode)
        (grad,) = torch.autograd.grad(out[0, 2].sum(), tokens)
        touched = grad[0].abs().sum(dim=1) > 0
        seen = {'value': {2}, 'value-only': {2}, 'value-cls': {0, 2}}.get(mode, set(range(5)))
        expected = [i in seen for i in range(5)]
        assert touched.tolist() == expected, mode
