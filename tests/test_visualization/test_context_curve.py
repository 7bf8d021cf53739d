from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from refineclip.encoders import RefinerCLIP
from refineclip.encoders.context_averaging import context_averaged_map
from refineclip.visualization import refining_curve, refining_curve_figure
from refineclip.visualization.context_curve import context_order, prefix_averages
from tests.test_distill.toys import PATCH, SIZE, TOWER


@pytest.fixture(scope='module')
def encoder() -> Any:
    torch.manual_seed(0)
    return RefinerCLIP(TOWER).eval()


def score(maps: list[Tensor]) -> dict[str, float]:
    return {'mean': float(torch.cat(maps).mean())}


def test_prefixes_are_what_averaging_gives_for_each_number(encoder: Any) -> None:
    target, contexts = torch.randn(1, 3, SIZE, SIZE), torch.randn(3, 3, SIZE, SIZE)
    found = prefix_averages(encoder, target, contexts, (1, 3), torch.Generator().manual_seed(1))
    for count, one in zip((1, 3), found, strict=True):
        generator = torch.Generator().manual_seed(1)
        expected = context_averaged_map(
            encoder.visual, target, contexts[:count], encoder.dense_mode, generator
        )
        torch.testing.assert_close(one, expected)
    assert found[0].shape == (1, 12, SIZE // PATCH, SIZE // PATCH)


def test_order_by_similarity() -> None:
    angles = torch.tensor([0.0, 0.1, 1.5, 0.7])
    embeddings = torch.stack([angles.cos(), angles.sin()], dim=1)
    assert context_order(embeddings, 0, 'most similar', None).tolist() == [1, 3, 2]
    assert context_order(embeddings, 0, 'least similar', None).tolist() == [2, 3, 1]
    drawn = context_order(embeddings, 1, 'random', torch.Generator().manual_seed(0))
    assert sorted(drawn.tolist()) == [0, 2, 3]


def test_curve(encoder: Any) -> None:
    images = torch.randn(4, 3, SIZE, SIZE)
    curve = refining_curve(encoder, images, score, counts=(2, 1), num_draws=2)
    again = refining_curve(encoder, images, score, counts=(1, 2), num_draws=2)
    assert curve.counts == (1, 2)
    alone = encoder.visual.dense(images, 'value').mean()
    assert curve.alone == {'mean': pytest.approx(float(alone), abs=1e-6)}
    values = curve.values['mean']
    assert list(values) == ['most similar', 'random', 'least similar', 'grey']
    for choice, value in values.items():
        assert value.shape == (2, 2)
        np.testing.assert_array_equal(value, again.values['mean'][choice])
    assert not np.allclose(values['most similar'], values['least similar'])
    similarity = curve.similarity
    assert similarity['most similar'] > similarity['least similar']
    embeddings = F.normalize(encoder.image_embedding(images), dim=1)
    cosine = (embeddings @ embeddings.T).fill_diagonal_(-2)
    assert similarity['most similar'] == pytest.approx(
        cosine.topk(2).values.mean().item(), abs=1e-5
    )


def test_grey_contexts_carry_nothing_of_the_other_images(encoder: Any) -> None:
    target, rest = torch.randn(1, 3, SIZE, SIZE), torch.randn(2, 3, SIZE, SIZE)
    found = [
        refining_curve(encoder, torch.cat([target, other]), first_only, (1,), ('grey',), 1)
        for other in (rest, rest + 3)
    ]
    first, second = (curve.values['first']['grey'] for curve in found)
    np.testing.assert_allclose(first, second, atol=1e-5)


def first_only(maps: list[Tensor]) -> dict[str, float]:
    return {'first': float(maps[0][0, 0, 0, 0])}


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        (dict(counts=(1, 4)), 'from 1 to 3'),
        (dict(counts=()), 'from 1 to 3'),
        (dict(counts=(1,), choices=('closest',)), 'expected some of'),
        (dict(counts=(1,), num_draws=0), '0 draws'),
    ],
)
def test_wrong_input(encoder: Any, kwargs: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        refining_curve(encoder, torch.randn(4, 3, SIZE, SIZE), score, **kwargs)
    with pytest.raises(TypeError, match='expected a RefinerCLIP'):
        refining_curve(torch.nn.Identity(), torch.randn(4, 3, SIZE, SIZE), score)


def test_figure(encoder: Any) -> None:
    curve = refining_curve(encoder, torch.randn(3, 3, SIZE, SIZE), score, (1, 2), num_draws=1)
    figure = refining_curve_figure(curve, {'mean': 'mean of all'})
    (axes,) = figure.axes
    assert axes.get_title() == 'mean of all'
    assert list(axes.lines[0].get_ydata()) == [curve.alone['mean']] * 2  # N = 0
    np.testing.assert_allclose(axes.lines[4].get_ydata(), curve.values['mean']['grey'][0])
    labels = [text.get_text() for text in figure.legends[0].get_texts()]
    assert labels[0] == 'image alone'
    assert labels[1].startswith('most similar (cos')
