from __future__ import annotations

import math

import pytest
import torch
from PIL import Image

from refineclip.export.compare import (
    TOLERANCE,
    Comparison,
    compare,
    difference,
    drawn_picture,
    require_equal,
    sample_pixels,
)
from refineclip.export.errors import ExportMismatchError


def test_difference_is_a_share_of_the_largest_value() -> None:
    assert difference(torch.tensor([1.0, -4.0]), torch.tensor([1.0, -3.0])) == 0.25
    assert difference(torch.tensor([1e-9, 0.0]), torch.tensor([0.0, 0.0])) == 1.0
    assert difference(torch.zeros(2), torch.tensor([0.0, 0.5])) == 0.5
    assert difference(torch.ones(2), torch.ones(2)) == 0


@pytest.mark.parametrize(
    'theirs', [torch.ones(3), torch.tensor([1.0, math.nan]), torch.tensor([math.inf, 1.0])]
)
def test_other_shapes_and_no_numbers_are_infinitely_far(theirs) -> None:
    assert difference(torch.ones(2), theirs) == math.inf
    assert compare('text', torch.ones(2), theirs).difference == math.inf


def test_rounding_passes_and_the_worst_output_is_named() -> None:
    require_equal([Comparison('dense map', TOLERANCE), Comparison('text', 0.0)])
    with pytest.raises(ExportMismatchError, match=r'got 2.0e-02 in text; nothing was kept'):
        require_equal([Comparison('dense map', 1e-3), Comparison('text', 2e-2)])


def test_pixels_are_noise_and_the_picture_beside_its_mirror_image() -> None:
    picture = Image.new('RGB', (4, 2), (255, 0, 51))
    picture.putpixel((0, 0), (0, 0, 0))
    pixels = sample_pixels((2, 4), picture)
    assert {name: tuple(value.shape) for name, value in pixels.items()} == {
        'random pixels': (2, 3, 2, 4),
        'picture': (2, 3, 2, 4),
    }
    photo, mirrored = pixels['picture']
    assert photo[:, 1, 3].tolist() == pytest.approx([1, 0, 0.2])
    assert photo[:, 0, 0].tolist() == [0, 0, 0]
    assert torch.equal(mirrored, photo.flip(2))


def test_the_drawn_picture_shows_something() -> None:
    assert (
        torch.frombuffer(bytearray(drawn_picture().tobytes()), dtype=torch.uint8).float().std() > 20
    )
