"""TextClassifier: a plain cosine classifier whose classes can be exchanged."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

pytest.importorskip('mmdet.models')

from refineclip.datasets.ov_splits import get_split
from refineclip.detection import TextClassifier

from . import toys

pytestmark = pytest.mark.mm


def classifier(names=toys.NAMES, rows=5, **kwargs):
    text = dict(text_embeddings=toys.embeddings(rows, 8))
    return TextClassifier(in_features=6, names=names, text=text, **kwargs)


def test_equals_a_plain_cosine_classifier():
    head = classifier(temperature=20.0)
    features = torch.randn(3, 6)
    projected = head.projection(features)
    expected = 20 * F.cosine_similarity(projected[:, None], toys.embeddings(5, 8)[None], dim=2)
    torch.testing.assert_close(head(features), expected)


def test_text_is_no_weight_and_the_temperature_is():
    head = classifier()
    assert set(head.state_dict()) == {'projection.weight', 'projection.bias', 'temperature'}
    head(torch.randn(2, 6)).logsumexp(1).sum().backward()
    assert head.temperature.grad.abs() > 0
    assert not head.embeddings.requires_grad
    assert not classifier(learn_temperature=False).temperature.requires_grad


def test_learned_background_needs_no_word():
    head = classifier(rows=4, learn_background=True)
    assert head.names == toys.NAMES
    head(torch.randn(2, 6))[:, -1].sum().backward()
    assert head.background.grad.abs().sum() > 0
    torch.testing.assert_close(head.embeddings.norm(dim=1), torch.ones(5))


def test_base_classes_follow_their_names():
    head = classifier(base_names=['boat', 'fish'])
    assert head.is_base.tolist() == [True, True, False, False]
    head.set_vocabulary(['flower', 'a', 'b', 'boat; bug'])
    assert head.names == ('flower', 'a', 'b', 'boat; bug')
    assert head.is_base.tolist() == [False, False, False, True]


def test_split_brings_names_and_base():
    text = dict(text_embeddings=toys.embeddings(66, 8))
    head = TextClassifier(in_features=6, split='ov-coco', text=text)
    assert head.names == get_split('ov-coco').classes
    assert int(head.is_base.sum()) == 48
    assert not head.is_base[head.names.index('airplane')]


@pytest.mark.parametrize(
    ('names', 'message'),
    [
        (['cat', 'cat'], r"\['cat'\] more than once"),
        (['cat', ' '], r'positions \[1\]'),
        (['cat', 'background'], 'class of no object; leave it out'),
        ([], 'got none'),
        (['cat', 'dog'], 'one row for each of 3 names, got 5'),
    ],
)
def test_wrong_names(names, message):
    with pytest.raises(ValueError, match=message):
        classifier(names)


def test_neither_names_nor_split():
    with pytest.raises(ValueError, match='names or a split'):
        classifier(None)
