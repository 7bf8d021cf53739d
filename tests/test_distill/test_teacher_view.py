"""What another tower is shown of the student's images."""

from __future__ import annotations

from types import SimpleNamespace

import torch

from refineclip.distill.teacher_view import as_seen_by


def tower(patch: int, mean: float, std: float) -> SimpleNamespace:
    return SimpleNamespace(patch_size=patch, image_mean=(mean,) * 3, image_std=(std,) * 3)


def test_nothing_differs() -> None:
    images = torch.randn(1, 3, 16, 16)
    assert as_seen_by(tower(8, 0.4, 0.2), images, (0.4,) * 3, (0.2,) * 3, 8) is images


def test_normalisation_by_hand() -> None:
    # A pixel of .6 is 1 in the student's (.4, .2) and .1 / .25 = .4 in the teacher's (.5, .25).
    images = torch.full((1, 3, 8, 8), 1.0)
    seen = as_seen_by(tower(8, 0.5, 0.25), images, (0.4,) * 3, (0.2,) * 3, 8)
    torch.testing.assert_close(seen, torch.full((1, 3, 8, 8), 0.4))


def test_grid_is_kept_and_values_stay_pixels() -> None:
    images = torch.zeros(1, 3, 32, 48)
    images[..., 24:] = 1.0
    seen = as_seen_by(tower(14, 0.0, 1.0), images, (0.0,) * 3, (1.0,) * 3, 16)
    assert seen.shape == (1, 3, 28, 42)  # 2 x 3 tokens of 14
    assert (seen.min(), seen.max()) == (0, 1)
    torch.testing.assert_close(seen[..., :18], torch.zeros(1, 3, 28, 18))
    torch.testing.assert_close(seen[..., 24:], torch.ones(1, 3, 28, 18))
