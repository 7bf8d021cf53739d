"""Gradient accumulation: two halves of a batch give the gradient of the whole."""

from __future__ import annotations

import pytest
import torch
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS

from .toy_runs import stage2_model
from .toys import raw_batch


def halves(data: dict) -> list[dict]:
    """The batch in two, image by image."""
    middle = len(data['inputs']) // 2
    return [
        {name: value[part] for name, value in data.items()}
        for part in (slice(None, middle), slice(middle, None))
    ]


@pytest.mark.parametrize('method', ['rla', 'sc-rla', 'r-sc-v'])
def test_two_accumulated_halves_equal_the_whole(method):
    """Losses are means over regions, so halves of as many regions weigh the same."""
    states = []
    for count in (1, 2):
        torch.manual_seed(0)
        model = MODELS.build(stage2_model(method)).train()
        for parameter in model.student.visual.blocks.parameters():
            # Away from the teacher, where the gradient of SCD is zero.
            parameter.data.add_(torch.randn_like(parameter), alpha=0.05)
        wrapper = build_optim_wrapper(
            model, dict(optimizer=dict(type='SGD', lr=0.5), accumulative_counts=count)
        )
        before = {name: value.clone() for name, value in model.student.state_dict().items()}
        wrapper.initialize_count_status(model, 0, count)
        data = raw_batch(4)
        for part in [data] if count == 1 else halves(data):
            model.train_step(part, wrapper)
        states.append(model.student.state_dict())
    for name, value in states[0].items():
        torch.testing.assert_close(states[1][name], value, atol=1e-5, rtol=0, msg=name)
    name = 'visual.model.transformer.resblocks.0.mlp.c_fc.weight'
    assert (states[0][name] - before[name]).abs().max() > 1e-4
