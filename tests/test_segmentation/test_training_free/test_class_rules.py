"""Which class a pixel gets: synonyms, backgrounds, thresholds and areas, by hand."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip('mmseg.models')


from refineclip.encoders.text.queries import make_queries

from ..toy_text import (
    BLUE,
    GREEN,
    RED,
    colour_segmentor,
    labels_of,
    picture,
)

pytestmark = pytest.mark.mm


def test_best_synonym_decides() -> None:
    # 'max': the green half of 'r;g' wins on green, where the mean of both (.71) loses to .8.
    texts = [RED, GREEN, (0.0, 0.8, 0.6)]
    model = colour_segmentor(['r;g', 'x'], texts)
    assert labels_of(model, picture(GREEN)).unique().tolist() == [0]
    mean = colour_segmentor(['r;g', 'x'], [(1.0, 1.0, 0.0), texts[2]], synonyms='mean')
    assert labels_of(mean, picture(GREEN)).unique().tolist() == [1]


def test_unlikely_pixels_are_background() -> None:
    # Cosines of (1, 1, 0): .71, .71, 0; of red: 1, 0, 0. With scale 10 the best has probability
    # 1 / (2 + e^-7.1) = .4998 and 1 / (1 + 2 e^-10) = .9999.
    names = ['r', 'g', 'b', 'background']
    image = picture(RED, (1.0, 1.0, 0.0))
    both = [colour_segmentor(names, prob_thd=p, logit_scale=10.0) for p in (0.4, 0.6)]
    assert [labels_of(model, image)[8, 30].item() for model in both] == [0, 3]
    assert [labels_of(model, image)[8, 2].item() for model in both] == [0, 0]


@pytest.mark.parametrize(
    ('texts', 'area_thd', 'at_green'),
    [
        # Background .6 at green, red 0, green 1.
        ([(0.8, 0.6, 0.0), RED, GREEN], 0.0, 2),
        ([(0.8, 0.6, 0.0), RED, GREEN], 0.09, 2),  # green covers a tenth of what is no background
        ([(0.8, 0.6, 0.0), RED, GREEN], 0.1, 0),  # which is not more than a tenth
        # Without green its pixels are the next best class, not background at once.
        ([BLUE, (0.8, 0.6, 0.0), GREEN], 0.1, 1),
    ],
)
def test_small_classes_are_not_in_the_image(texts: list, area_thd: float, at_green: int) -> None:
    kwargs = dict(background_names=['k'], area_thd=area_thd)
    model = colour_segmentor(['background', 'r', 'g'], texts, **kwargs)
    found = model.predict(picture(*[RED] * 9, GREEN))[0]
    assert found.pred_sem_seg.data[0, 8, [4, 152]].tolist() == [1, at_green]
    assert 'seg_logits' not in found


def test_area_rule_needs_a_background_class() -> None:
    model = colour_segmentor(['r', 'g', 'b'], area_thd=0.5)
    assert labels_of(model, picture(*[RED] * 9, GREEN))[8, 152] == 1


@pytest.mark.parametrize('chunk_size', [2, 64])
def test_area_rule_is_that_of_sclip(chunk_size: int) -> None:
    """Written out from its released clip_segmentor.py: on probabilities, background first."""
    names = ['background', *'abcdefg']
    kwargs = dict(background_names=['u', 'v'], prob_thd=0.12, logit_scale=7.0, area_thd=0.1)
    model = colour_segmentor(names, torch.randn(9, 3).tolist(), chunk_size=chunk_size, **kwargs)
    image = torch.randn(1, 3, 6, 8).repeat_interleave(8, 2).repeat_interleave(8, 3)
    cosine = torch.nn.functional.interpolate(model._forward(image), (48, 64), mode='bilinear')[0]
    probability = (7 * cosine).softmax(0)
    owner = torch.tensor(model.queries.owner)
    scores = torch.stack([probability[owner == c].amax(0) for c in range(8)])
    areas = torch.bincount(scores.argmax(0).flatten(), minlength=8)[1:]
    large = areas > 0.1 * areas.sum()
    assert 0 < large.sum() < 7
    scores[1:] *= large[:, None, None]
    expected = scores.argmax(0).masked_fill(scores.amax(0) < 0.12, 0)
    assert torch.equal(labels_of(model, image), expected)
    assert len(expected.unique()) > 2


@pytest.mark.parametrize('chunk_size', [1, 64])
def test_first_of_equal_texts_wins(chunk_size: int) -> None:
    """As argmax over all texts does; the classes of a data set may have equal names."""
    model = colour_segmentor(None, [RED, GREEN, RED, GREEN], chunk_size=chunk_size)
    model.set_vocabulary(['r', 'g', 'r', 'g'], distinct=False)
    assert labels_of(model, picture(GREEN, RED))[8, [4, 28]].tolist() == [1, 0]
    with pytest.raises(ValueError, match=r'at positions \[\[0, 2\], \[1, 3\]\]'):
        model.set_vocabulary(['r', 'g', 'r', 'g'])


def test_threshold_needs_a_background_class() -> None:
    model = colour_segmentor(['r', 'g', 'b'], prob_thd=0.9, logit_scale=1.0)
    assert labels_of(model, picture(RED)).unique().tolist() == [0]


def test_background_names_stand_for_the_background() -> None:
    model = colour_segmentor(['background', 'r'], [GREEN, BLUE, RED], background_names=['g', 'b'])
    assert model.queries.texts == ('g', 'b', 'r')
    assert labels_of(model, picture(GREEN, RED, BLUE))[8, [4, 24, 44]].tolist() == [0, 1, 0]


@pytest.mark.parametrize(
    ('names', 'kwargs', 'texts', 'owner'),
    [
        (['a', 'b;c'], {}, ('a', 'b', 'c'), (0, 1, 1)),
        (['a', 'b;c'], dict(synonyms='mean'), ('a', 'b;c'), (0, 1)),
        (['background', 'a'], {}, ('background', 'a'), (0, 1)),
        (['background', 'a'], dict(threshold=True), ('a',), (1,)),
        (['background;x', 'a'], dict(background_names=('a', 'y')), ('x', 'y', 'a'), (0, 0, 1)),
    ],
)
def test_texts_of_a_vocabulary(names, kwargs, texts, owner) -> None:
    queries = make_queries(names, **kwargs)
    assert (queries.texts, queries.owner) == (texts, owner)
    assert queries.num_classes == len(names)
