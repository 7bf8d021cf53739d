"""Averaging over shifts: moved maps come back to their place."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from refineclip.encoders import RefinerCLIP
from refineclip.evaluation.encoders import ShiftAveraging
from tests.test_distill.toys import TOWER


class Ramps(nn.Module):
    """The mean of every patch, of which two channels are coordinates."""

    def __init__(self) -> None:
        super().__init__()
        self.visual = self
        self.patch_size, self.image_mean, self.image_std = 8, (0.0,) * 3, (1.0,) * 3

    def dense(self, images):
        return F.avg_pool2d(images, 8)

    def image_embedding(self, images):
        return images.mean((2, 3))


def test_one_shift_is_the_encoder_of_unit_length():
    encoder = RefinerCLIP(TOWER).eval()
    images = torch.randn(2, 3, 32, 40)
    once = ShiftAveraging(encoder, 1)
    torch.testing.assert_close(once.dense(images), F.normalize(encoder.dense(images), dim=1))
    assert torch.equal(once.image_embedding(images), encoder.image_embedding(images))


def test_a_smooth_image_stays_where_it_is(monkeypatch):
    """Without the division by length every shift of a ramp is moved back exactly."""
    ys, xs = torch.meshgrid(torch.arange(48.0), torch.arange(64.0), indexing='ij')
    images = torch.stack([ys, xs, torch.ones(48, 64)])[None]
    monkeypatch.setattr(F, 'normalize', lambda x, dim: x)
    found = ShiftAveraging(Ramps(), 4).dense(images)
    inner = (..., slice(1, -1), slice(1, -1))  # edges repeat pixels
    torch.testing.assert_close(found[inner], F.avg_pool2d(images, 8)[inner], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize('count', [0, 9])
def test_wrong_numbers(count):
    with pytest.raises(ValueError, match=f'shifts: expected 1 to 8, the patch, got {count}'):
        ShiftAveraging(RefinerCLIP(TOWER), count)
