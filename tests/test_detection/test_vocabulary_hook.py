"""DetVocabularyHook: labels and names in step, whatever the data set and the words."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

pytest.importorskip('mmdet.models')

from refineclip.detection import DetVocabularyHook

from . import toys

pytestmark = pytest.mark.mm


def runner(classes=toys.NAMES, **changes):
    """What the hook reads of a runner."""
    model = toys.build(**changes)
    loader = SimpleNamespace(dataset=SimpleNamespace(metainfo=dict(classes=classes)))
    loop = SimpleNamespace(dataloader=loader)
    return SimpleNamespace(model=model, train_loop=loop, val_loop=None, test_dataloader=loader)


@pytest.mark.parametrize(
    ('classes', 'message'),
    [
        (
            ('boat', 'fish', 'house', 'tree'),
            r"first different .*\('boat', 'fish'\), \('fish', 'boat'\)",
        ),
        (('fish', 'boat', 'house'), "3 classes and the model's 4 names.*their number"),
    ],
)
def test_data_of_other_classes_is_refused(classes, message):
    with pytest.raises(ValueError, match=message):
        DetVocabularyHook().before_train(runner(classes))


def test_spelling_of_compounds_does_not_matter():
    DetVocabularyHook().before_train(runner(('FISH', 'bo_at', 'hou se', 'tree')))


def test_base_names_outside_the_vocabulary_are_refused():
    key = 'roi_head__bbox_head__classifier__base_names'
    with pytest.raises(ValueError, match=r"got 1 others: \['wugg'\]"):
        DetVocabularyHook().before_train(runner(**{key: ['fish', 'wugg']}))


def test_the_data_sets_classes_are_tested():
    other = ('flower', 'boat', 'tree', 'x')
    host = runner(other)
    DetVocabularyHook().before_test(host)
    assert host.model.vocabulary == other
    assert host.model.roi_head.bbox_head.fc_cls.is_base.tolist() == [False, True, False, False]


def test_equal_classes_are_not_embedded_again():
    host = runner()
    before = host.model.roi_head.bbox_head.fc_cls.bank.embeddings
    DetVocabularyHook().before_test(host)
    assert host.model.roi_head.bbox_head.fc_cls.bank.embeddings is before


def test_another_name_of_a_base_class_stays_base():
    host = runner()
    words = ('one', 'two', 'three', 'four')
    DetVocabularyHook(words).before_test(host)
    assert host.model.vocabulary == words
    assert torch.equal(
        host.model.roi_head.bbox_head.fc_cls.is_base, torch.tensor([True, True, True, False])
    )


def test_one_name_for_each_class():
    with pytest.raises(ValueError, match="each of the data set's 4 classes, got 2"):
        DetVocabularyHook(['a', 'b']).before_test(runner())
