from __future__ import annotations

import pytest
import torch

from refineclip.evaluation.regions.agreement import region_agreement


def test_numbers_by_hand():
    """Two images, one region of two cells each, in the plane."""
    close_ups = torch.tensor([[[1.0, 0.0], [0.0, 1.0]], [[-1.0, 0.0], [0.6, 0.8]]])
    tokens = torch.tensor([[[3.0, 0.0], [0.6, 0.8]], [[-2.0, 0.0], [0.0, 5.0]]])
    found = region_agreement(tokens, close_ups, torch.tensor([0, 1]))
    # Own: 1, .8, 1, .8. Best of the other image: .6, 1, 0, 1: the first and third are found.
    assert found.cosine == pytest.approx(0.9)
    assert found.top1 == 0.5
    assert found.chance == pytest.approx(1 / 3)


def test_regions_of_the_same_image_do_not_compete():
    tokens = torch.eye(4).view(2, 2, 4)
    tokens = torch.cat([tokens, tokens[:1]])  # the third region repeats the first
    found = region_agreement(tokens, tokens, torch.tensor([0, 1, 0]))
    assert (found.cosine, found.top1) == (1, 1)
    assert found.chance == pytest.approx((4 * (1 / 3) + 2 * (1 / 5)) / 6)


def test_a_collapsed_map_finds_nothing():
    tokens = torch.ones(3, 4, 8)
    found = region_agreement(tokens, tokens, torch.tensor([0, 1, 2]))
    assert found.cosine == pytest.approx(1)
    assert found.top1 == 0


def test_one_image_has_no_others():
    with pytest.raises(ValueError, match='two or more images, got 1'):
        region_agreement(torch.ones(2, 1, 2), torch.ones(2, 1, 2), torch.zeros(2))
