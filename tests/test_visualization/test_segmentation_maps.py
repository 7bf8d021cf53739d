from __future__ import annotations

import numpy as np
import pytest
import torch

from refineclip.encoders.text.text_head import TextHead
from refineclip.visualization import name_pixels, segmentation_figure
from refineclip.visualization.segmentation_maps import overlay
from tests.test_visualization.toys import halves, picture

TEXT = 7 * torch.eye(5)[[1, 0, 4]]  # right half, left half, nothing


def test_pixels_take_the_name_of_their_half() -> None:
    found = name_pixels(halves(), TEXT, (32, 48))
    assert found.shape == (32, 48)
    assert (found[:, :24] == 1).all()
    assert (found[:, 24:] == 0).all()


def test_through_a_text_head() -> None:
    swap = torch.eye(5)[[1, 0, 2, 3, 4]]
    head = TextHead(torch.zeros(5), torch.ones(5), swap, torch.zeros(5))
    np.testing.assert_array_equal(
        name_pixels(halves(), TEXT, (8, 12), head), 1 - name_pixels(halves(), TEXT, (8, 12))
    )


def test_wrong_width() -> None:
    with pytest.raises(ValueError, match=r'5 columns.*\(3, 4\)'):
        name_pixels(halves(), torch.ones(3, 4), (8, 12))


def test_overlay_leaves_unnamed_pixels_grey() -> None:
    image = picture(4, 4)
    blended = overlay(image, np.array([[0, -1, 1, 1]] * 4), {0: '#ff0000'})
    grey = 0.4 + 0.6 * image.astype(float).mean(2) / 255
    np.testing.assert_allclose(blended[:, 1:], grey[:, 1:, None].repeat(3, 2))
    np.testing.assert_allclose(blended[:, 0, 0], 0.3 * grey[:, 0] + 0.7)
    np.testing.assert_allclose(blended[:, 0, 1], 0.3 * grey[:, 0])


def test_figure_names_only_what_occurs() -> None:
    labels = {'a': [name_pixels(halves(), TEXT, (32, 48))], 'b': [np.full((32, 48), -1)]}
    figure = segmentation_figure([picture()], labels, ['sky', 'sea', 'ship'])
    assert len(figure.axes) == 3
    assert [t.get_text() for t in figure.legends[0].get_texts()] == ['sky', 'sea']
    with pytest.raises(ValueError, match=r'labels in \[0, 1\), got 1'):
        segmentation_figure([picture()], labels, ['sky'])
    with pytest.raises(ValueError, match='one label map of its size'):
        segmentation_figure([picture(32, 32)], labels, ['sky', 'sea'])
