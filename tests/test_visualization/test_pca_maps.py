from __future__ import annotations

import numpy as np
import pytest
import torch

from refineclip.visualization import PcaBasis, fit_pca, pca_figure
from tests.test_visualization.toys import halves, noise, picture


def test_first_component_separates_the_halves() -> None:
    dense = halves() + 0.01 * noise(0)
    colours = fit_pca({'a': [dense]})['a'].colours(dense)
    assert colours.shape == (4, 6, 3)
    left, right = colours[:, :3, 0], colours[:, 3:, 0]
    assert abs(left.mean() - right.mean()) > 0.9
    assert left.std() < 0.05


def test_components_are_those_of_a_singular_value_decomposition() -> None:
    dense = noise(1, dims=7)
    basis = fit_pca({'a': [dense]})['a']
    tokens = torch.nn.functional.normalize(dense.flatten(1).T, dim=1)
    expected = torch.linalg.svd(tokens - tokens.mean(0)).Vh[:3].T
    cosine = (basis.components * expected).sum(0).abs()
    torch.testing.assert_close(cosine, torch.ones(3), atol=1e-4, rtol=0)


def test_colours_by_hand() -> None:
    basis = PcaBasis(
        mean=torch.zeros(3),
        components=torch.eye(3),
        low=torch.tensor([0.0, 0.0, -1.0]),
        high=torch.tensor([1.0, 0.5, 1.0]),
    )
    dense = torch.tensor([3.0, 4.0, 0.0]).view(3, 1, 1)  # normalised: .6, .8, 0
    np.testing.assert_allclose(basis.colours(dense)[0, 0], [0.6, 1.0, 0.5], atol=1e-6)


def test_a_mere_shift_or_scale_of_a_model_is_no_colour() -> None:
    one = noise(2)
    unit = torch.nn.functional.normalize(one, dim=0)
    bases = fit_pca({'a': [one], 'b': [5 * unit]})
    np.testing.assert_allclose(bases['a'].colours(one), bases['b'].colours(5 * unit), atol=1e-4)
    assert torch.equal(bases['a'].components, bases['b'].components)


def test_a_restless_model_does_not_decide_alone() -> None:
    # b scatters 10 times as far along other channels; with equal weight a's direction stays in.
    a, b = torch.zeros(6, 4, 6), torch.zeros(6, 4, 6)
    a[0], b[0] = 10.0, 1.0
    generator = torch.Generator().manual_seed(0)
    a[1] = torch.randn(4, 6, generator=generator)
    b[2:6] = torch.randn(4, 4, 6, generator=generator)
    components = fit_pca({'a': [a], 'b': [b]})['a'].components
    assert components[1].abs().max() > 0.95


def test_widths() -> None:
    maps = {'a': [noise(0)], 'b': [noise(0, dims=4)]}
    with pytest.raises(ValueError, match='one width for a shared basis'):
        fit_pca(maps)
    bases = fit_pca(maps, shared=False)
    assert {len(basis.mean) for basis in bases.values()} == {5, 4}
    with pytest.raises(ValueError, match='5 channels as the basis has, got 4'):
        bases['a'].colours(noise(0, dims=4))
    with pytest.raises(ValueError, match='3 channels or more, got 2'):
        fit_pca({'a': [noise(0, dims=2)]})


def test_figure_has_an_aligned_panel_per_image_and_model() -> None:
    images = [picture(), picture(48, 32)]
    maps = {'frozen': [noise(0), noise(1)], 'refined': [noise(2), noise(3)]}
    figure = pca_figure(images, maps)
    assert len(figure.axes) == 6
    assert [axes.get_title() for axes in figure.axes[:3]] == ['image', 'frozen', 'refined']
    assert figure.axes[1].get_position().x0 == figure.axes[4].get_position().x0
    assert 'One basis' in figure.texts[0].get_text().replace('\n', ' ')
    assert 'each model alone' in pca_figure(images, maps, shared=False).texts[0].get_text().replace(
        '\n', ' '
    )
    with pytest.raises(ValueError, match='one map per image'):
        pca_figure(images[:1], maps)
