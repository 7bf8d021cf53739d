from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from refineclip.visualization import denormalize, fit_picture, to_picture
from refineclip.visualization.pictures import as_map, check_maps, normalize, tokens_of
from tests.test_visualization.toys import halves, picture


def test_every_form_of_an_image_shows_the_same_pixels() -> None:
    expected = picture()
    tensor = torch.from_numpy(expected).permute(2, 0, 1)
    for image in (expected, Image.fromarray(expected), tensor, tensor.float() / 255):
        np.testing.assert_array_equal(to_picture(image), expected)


def test_normalised_images_come_back() -> None:
    mean, std = (0.5, 0.4, 0.3), (0.2, 0.3, 0.25)
    images = normalize(picture(), mean, std)
    assert images.shape == (1, 3, 32, 48)
    assert images[0, 1, 0, 2] == pytest.approx((10 / 255 - 0.4) / 0.3)
    np.testing.assert_array_equal(denormalize(images, mean, std)[0], picture())
    with pytest.raises(ValueError, match='denormalize'):
        to_picture(images[0])


@pytest.mark.parametrize('image', [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32)])
def test_other_arrays_are_refused(image: np.ndarray) -> None:
    with pytest.raises(ValueError, match='expected a uint8 image'):
        to_picture(image)


def test_fit_covers_whole_patches(tmp_path: Path) -> None:
    file = tmp_path / 'a.png'
    Image.fromarray(picture(50, 90)).save(file)
    assert fit_picture(file, 64, 8).shape == (32, 64, 3)  # 64 * 50 / 90 = 35.6: 4 patches
    assert fit_picture(Image.fromarray(picture(90, 50)), 64, 8).shape == (64, 32, 3)
    assert fit_picture(Image.fromarray(picture(4, 400)), 64, 8).shape == (8, 64, 3)
    with pytest.raises(ValueError, match='multiple of the patch 8, got 60'):
        fit_picture(file, 60, 8)


def test_maps_are_checked() -> None:
    assert as_map(halves()[None]).shape == (5, 4, 6)
    torch.testing.assert_close(tokens_of(halves())[0], torch.tensor([1.0, 0, 0, 0, 0]))
    torch.testing.assert_close(tokens_of(halves())[3], torch.tensor([0.0, 1, 0, 0, 0]))
    with pytest.raises(ValueError, match='one image'):
        as_map(torch.zeros(2, 5, 4, 6))
    with pytest.raises(ValueError, match='finite'):
        as_map(torch.full((5, 4, 6), torch.nan))
    with pytest.raises(ValueError, match='got 1 maps for 2 images'):
        check_maps({'a': [halves()]}, 2)
    with pytest.raises(ValueError, match='got 0 models'):
        check_maps({}, 2)
