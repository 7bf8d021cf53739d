"""Label maps are looked at before training."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import pytest
from PIL import Image

pytest.importorskip('mmseg.models')

from mmengine.registry import DATASETS, DefaultScope

from refineclip.segmentation import LabelMapHook

pytestmark = pytest.mark.mm


@pytest.fixture(autouse=True)
def mmseg_scope() -> None:
    DefaultScope.get_instance('label-hook', scope_name='mmseg')


def runner(folder: Path, values: list[list[int]], classes: tuple[str, ...], **options: Any) -> Any:
    """A training set whose label maps show the given values, one column each."""
    for index, own in enumerate(values):
        labels = np.array([own], np.uint8)
        for part, array in (('img', np.stack([labels] * 3, axis=-1)), ('ann', labels)):
            path = folder / part / f'{index}.png'
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(array).save(path)
    dataset = DATASETS.build(
        dict(
            type='BaseSegDataset',
            data_root=str(folder),
            data_prefix=dict(img_path='img', seg_map_path='ann'),
            img_suffix='.png',
            seg_map_suffix='.png',
            metainfo=dict(classes=classes),
            pipeline=[dict(type='LoadSegLabels')],
            **options,
        )
    )
    return SimpleNamespace(train_dataloader=SimpleNamespace(dataset=dataset))


def test_masks_of_0_and_255_are_refused(tmp_path: Path) -> None:
    masks = runner(tmp_path, [[0, 255, 255, 0], [0, 0, 0, 255]], ('background', 'crack'))
    message = r"2 of 2 read that show only 'background', 38% of the pixels ignored; .*0 and 255"
    with pytest.raises(ValueError, match=message):
        LabelMapHook().before_train(masks)


def test_maps_without_a_class_are_refused(tmp_path: Path) -> None:
    masks = runner(tmp_path, [[0, 0, 255, 255]] * 3, ('crack',), reduce_zero_label=True)
    with pytest.raises(ValueError, match='2 of 3 read that show none of them, 100%'):
        LabelMapHook(num_images=2).before_train(masks)


def test_a_part_that_shows_one_class_is_a_warning(tmp_path: Path) -> None:
    rare = runner(tmp_path, [[0, 0, 0, 0], [1, 1, 0, 0], [0, 0, 0, 0]], ('road', 'crack'))
    with mock.patch('refineclip.segmentation.label_hook.print_log') as log:
        LabelMapHook(num_images=2).before_train(rare)  # the first and the last
    assert "2 of 3 read that show only 'road'" in log.call_args[0][0]
    with mock.patch('refineclip.segmentation.label_hook.print_log') as log:
        LabelMapHook().before_train(rare)
    log.assert_not_called()
