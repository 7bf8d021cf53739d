from __future__ import annotations

import numpy as np
import pytest
import torch

from refineclip.visualization import pool_objects, tsne_figure
from refineclip.visualization.object_scatter import choose_frequent, tsne_points
from tests.test_visualization.toys import halves


def test_masks_and_boxes_agree_on_whole_tokens() -> None:
    left = torch.zeros(1, 4, 6)
    left[:, 1:3, 0:2] = 1
    boxes = torch.tensor([[0.0, 0.25, 2 / 6, 0.75]])
    by_mask = pool_objects([halves(), halves()[None]], masks=[left, left])
    expected = torch.tensor([[1.0, 0, 0, 0, 0]]).expand(2, -1)
    torch.testing.assert_close(by_mask, expected)
    torch.testing.assert_close(pool_objects([halves()], boxes=[boxes]), expected[:1])
    both = torch.ones(1, 4, 6)  # half of (2, 0), half of (0, 3), normalised
    mixed = torch.tensor([[2.0, 3.0, 0, 0, 0]]) / 13**0.5
    torch.testing.assert_close(pool_objects([halves()], masks=[both]), mixed)
    with pytest.raises(ValueError, match='either boxes or masks'):
        pool_objects([halves()], boxes=[boxes], masks=[left])
    with pytest.raises(ValueError, match='regions of 2 images, got 1'):
        pool_objects([halves()] * 2, masks=[left])


def test_points_keep_clusters_and_repeat() -> None:
    features = torch.cat([torch.eye(6)[:1], torch.eye(6)[1:2]]).repeat_interleave(8, 0)
    features = features + 0.05 * torch.randn(16, 6)
    points = tsne_points(features)
    np.testing.assert_array_equal(points, tsne_points(features))
    centres = points[:8].mean(0), points[8:].mean(0)
    halves_of = np.split(points, 2)
    spread = max(float(np.linalg.norm(own - own.mean(0), axis=1).mean()) for own in halves_of)
    assert np.linalg.norm(centres[0] - centres[1]) > 2 * spread
    with pytest.raises(ValueError, match='4 or more objects'):
        tsne_points(features[:3])


def test_figure_draws_the_frequent_classes() -> None:
    labels = np.array([0] * 5 + [2] * 4 + [1] * 2)
    assert choose_frequent(labels, 2) == [0, 2]
    features = {'a': torch.randn(11, 4), 'b': torch.randn(11, 4)}
    figure = tsne_figure(features, labels, ['cat', 'dog', 'a very long name of a class'], 2)
    assert [axes.get_title() for axes in figure.axes] == ['a', 'b']
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == ['cat', 'a very long name of…']
    assert '9 objects (of 11)' in figure.texts[0].get_text()
    with pytest.raises(ValueError, match=r'one feature per label \(10\), got 11'):
        tsne_figure(features, labels[:10], ['cat', 'dog', 'x'])
