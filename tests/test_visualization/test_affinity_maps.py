from __future__ import annotations

import numpy as np
import pytest

from refineclip.visualization import affinity, affinity_figure
from refineclip.visualization.affinity_maps import token_index
from tests.test_visualization.toys import halves, noise, picture


def test_token_of_a_point() -> None:
    assert token_index((0.0, 0.0), (4, 6)) == (0, 0)
    assert token_index((1.0, 1.0), (4, 6)) == (3, 5)
    assert token_index((0.5, 0.26), (4, 6)) == (1, 3)  # x counts columns, y rows
    with pytest.raises(ValueError, match=r'in \[0, 1\]'):
        token_index((5.0, 0.5), (4, 6))


def test_affinity_by_hand() -> None:
    cosine = affinity(halves(), (0.9, 0.1))
    np.testing.assert_allclose(cosine[:, 3:], 1.0)
    np.testing.assert_allclose(cosine[:, :3], 0.0)


def test_figure() -> None:
    images, maps = [picture()] * 2, {'a': [halves(), noise(0)], 'b': [noise(1), noise(2)]}
    shared = affinity_figure(images, maps, [(0.1, 0.1), (0.9, 0.9)])
    assert len(shared.axes) == 7  # with the colour bar
    limits = {axes.images[0].get_clim() for axes in (*shared.axes[1:3], *shared.axes[4:6])}
    assert len(limits) == 1
    own = affinity_figure(images, maps, (0.5, 0.5), shared_range=False)
    assert len(own.axes) == 6
    assert own.axes[1].texts[0].get_text() == '0.00 to 1.00'
    with pytest.raises(ValueError, match='one point x, y or one per image'):
        affinity_figure(images, maps, [(0.1, 0.1)] * 3)
