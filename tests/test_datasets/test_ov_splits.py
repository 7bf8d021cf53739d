"""The class lists of OV-COCO, OV-LVIS and the transfer sets."""

from __future__ import annotations

import pytest

from refineclip.datasets.ov_splits import SPLITS, get_split

SIZES = {
    'ov-coco': (65, 48, 17),
    'ov-coco-80': (80, 48, 17),
    'ov-lvis': (1203, 866, 337),
    'coco': (80, 0, 0),
    'objects365': (365, 0, 0),
    'voc': (20, 0, 0),
    'microworld': (16, 12, 4),
}


@pytest.mark.parametrize('name', sorted(SPLITS))
def test_published_sizes(name: str) -> None:
    split = get_split(name)
    assert (len(split.classes), len(split.base), len(split.novel)) == SIZES[name]
    assert len(set(split.classes)) == len(split.classes)


@pytest.mark.parametrize('name', ['ov-coco', 'ov-coco-80', 'ov-lvis', 'microworld'])
def test_base_and_novel_are_disjoint_and_in_order(name: str) -> None:
    split = get_split(name)
    for part in (split.base, split.novel):
        assert list(part) == [each for each in split.classes if each in set(part)]
    assert not set(split.base) & set(split.novel)


def test_labels_of_the_65_and_of_the_80_classes_differ() -> None:
    # The trap of the two conventions: the same class, another label.
    assert get_split('ov-coco').classes.index('bench') == 9
    assert get_split('ov-coco-80').classes.index('bench') == 13


def test_known_members() -> None:
    assert 'umbrella' in get_split('ov-coco').novel
    assert 'traffic light' not in get_split('ov-coco').classes
    assert get_split('ov-lvis').classes[0] == 'aerosol_can'
    assert get_split('ov-lvis').classes[1202] == 'zucchini'
    assert 'applesauce' in get_split('ov-lvis').novel


def test_unknown_split() -> None:
    with pytest.raises(ValueError, match=r"expected one of .*'ov-coco'.*got 'coco-ov'"):
        get_split('coco-ov')


def test_metainfo_is_what_mmdet_reads() -> None:
    metainfo = get_split('ov-coco').metainfo
    assert sorted(metainfo) == ['base_classes', 'classes', 'novel_classes']
