"""Two and four processes against one that has all their images: losses, gradients, weights."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
import torch

from .forks import run_group
from .steps import STEPS, train

pytestmark = pytest.mark.slow


@pytest.mark.parametrize('counts', [1, 2], ids=['', 'accumulated'])
@pytest.mark.parametrize('world', [2, 4])
@pytest.mark.parametrize(
    'name',
    [pytest.param(name, marks=[pytest.mark.mm] * step.needs_mm) for name, step in STEPS.items()],
)
def test_processes_equal_one(name: str, world: int, counts: int, tmp_path: Path) -> None:
    """The images of every second process, or broken files, have no region."""
    step = STEPS[name]
    if step.needs_mm:
        pytest.importorskip('mmdet.models')
        pytest.importorskip('mmseg.models')
    run = partial(train, step, counts=counts)
    [alone] = run_group(tmp_path / 'alone', 1, run)
    several = run_group(tmp_path / 'several', world, run)
    losses = torch.tensor([one['losses'] for one in several])
    close = dict(atol=step.tolerance, rtol=step.tolerance)
    torch.testing.assert_close(losses.mean(0), torch.tensor(alone['losses']), **close)
    torch.manual_seed(3)
    before = dict(step.model().named_parameters())
    largest = max(float((v - before[k]).abs().max()) for k, v in alone['weights'].items())
    assert largest > 1e-3
    for one in several:
        assert one['weights'].keys() == alone['weights'].keys()
        for key, value in alone['weights'].items():
            torch.testing.assert_close(
                one['weights'][key],
                value,
                atol=step.tolerance * max(1.0, largest),
                rtol=0,
                msg=f'{key}: {{}}'.format,
            )
