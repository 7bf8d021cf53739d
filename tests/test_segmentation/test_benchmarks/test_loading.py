"""LoadSegLabels keeps all bits and refuses what does not fit."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip('mmseg.datasets')

from mmengine.registry import TRANSFORMS, DefaultScope
from mmseg.datasets.transforms import LoadAnnotations, Resize

from refineclip.segmentation import LoadSegLabels

from ..toy_text import stripes, write_labels

pytestmark = pytest.mark.mm


def load(path: Path, loader: LoadAnnotations, **info) -> np.ndarray:
    results = dict(seg_map_path=str(path), img_path='image.jpg', seg_fields=[], **info)
    results.setdefault('reduce_zero_label', False)
    loader.transform(results)
    assert results['seg_fields'] == ['gt_seg_map']
    return results['gt_seg_map']


def columns(labels: np.ndarray, count: int) -> list[int]:
    assert (labels == labels[:1]).all()
    return labels[0, :: labels.shape[1] // count].tolist()


def test_sixteen_bits_stay(tmp_path: Path) -> None:
    stored = stripes(0, 255, 256, 846, 65535, 300, dtype=np.uint16)
    write_labels(tmp_path / 'a.tif', stored)
    found = load(tmp_path / 'a.tif', LoadSegLabels(num_labels=847, ignore_index=65535))
    assert columns(found, 6) == [0, 255, 256, 846, 65535, 300]
    # What mmseg's own transform makes of it.
    assert columns(load(tmp_path / 'a.tif', LoadAnnotations()), 6) != [0, 255, 256, 846, 65535, 300]


@pytest.mark.parametrize('reduce', [False, True])
@pytest.mark.parametrize('label_map', [None, {0: 2, 1: 0, 2: 1, 3: 255}])
def test_equals_mmseg_on_eight_bits(tmp_path: Path, reduce: bool, label_map: dict | None) -> None:
    write_labels(tmp_path / 'a.png', stripes(0, 1, 2, 3, 254, 255))
    info = dict(reduce_zero_label=reduce, label_map=label_map)
    loaders = (LoadSegLabels(), LoadAnnotations())
    ours, theirs = (load(tmp_path / 'a.png', loader, **info) for loader in loaders)
    # mmseg takes 254, which no data set has, for a zero after its subtraction.
    assert columns(ours, 6)[:4] == columns(theirs, 6)[:4]
    assert columns(ours, 6)[5] == columns(theirs, 6)[5] == 255


@pytest.mark.parametrize('value', [150, 254])
def test_class_beyond_the_vocabulary(tmp_path: Path, value: int) -> None:
    write_labels(tmp_path / 'odd.png', stripes(0, 149, value, 255))
    with pytest.raises(
        ValueError, match=rf'odd.png: expected labels in \[0, 149\].*got \[{value}\]'
    ):
        load(tmp_path / 'odd.png', LoadSegLabels(num_labels=150))


def test_sixteen_bit_value_that_eight_bits_would_hide(tmp_path: Path) -> None:
    # 65535 is 255 and 256 is 0 in eight bits: both would pass for good labels.
    write_labels(tmp_path / 'a.tif', stripes(3, 65535, 256, dtype=np.uint16))
    with pytest.raises(ValueError, match=r'got \[256, 65535\]'):
        load(tmp_path / 'a.tif', LoadSegLabels(num_labels=150))


def test_sizes_must_agree(tmp_path: Path) -> None:
    write_labels(tmp_path / 'a.png', stripes(0, 1))
    assert load(tmp_path / 'a.png', LoadSegLabels(), ori_shape=(40, 48)).shape == (40, 48)
    with pytest.raises(ValueError, match=r'labels of 40 x 48 px.*got 48 x 40 px'):
        load(tmp_path / 'a.png', LoadSegLabels(), ori_shape=(48, 40))


def test_pictures_of_labels_are_refused(tmp_path: Path) -> None:
    Image.new('RGB', (48, 40)).save(tmp_path / 'a.png')
    with pytest.raises(ValueError, match='expected one channel of labels'):
        load(tmp_path / 'a.png', LoadSegLabels())


def test_panoptic_ids(tmp_path: Path) -> None:
    rgb = np.zeros((40, 48, 3), dtype=np.uint8)
    rgb[:, :16] = (1, 2, 3)  # 1 + 2 * 256 + 3 * 65536
    rgb[:, 16:32] = (9, 0, 0)
    Image.fromarray(rgb).save(tmp_path / 'a.png')
    segments = {1 + 2 * 256 + 3 * 65536: 7, 9: 0}
    found = load(tmp_path / 'a.png', LoadSegLabels(num_labels=8), category_of_segment=segments)
    assert columns(found, 3) == [7, 0, 255]


@pytest.mark.parametrize('backend', ['pillow', 'cv2'])
def test_training_transforms_take_the_labels(tmp_path: Path, backend: str) -> None:
    write_labels(tmp_path / 'a.png', stripes(0, 170, 255))
    steps = [LoadSegLabels(num_labels=171), Resize(scale=(24, 20), backend=backend)]
    results = dict(seg_map_path=str(tmp_path / 'a.png'), img=np.zeros((40, 48, 3), np.uint8))
    results.update(img_shape=(40, 48), seg_fields=[])
    for step in steps:
        results = step(results)
    assert columns(results['gt_seg_map'], 3) == [0, 170, 255]


def test_registered_and_checked() -> None:
    with DefaultScope.overwrite_default_scope('mmseg'):
        loader = TRANSFORMS.build(dict(type='LoadSegLabels', num_labels=19))
    assert isinstance(loader, LoadSegLabels)
    with pytest.raises(ValueError, match='outside of the 847 labels'):
        LoadSegLabels(num_labels=847)
