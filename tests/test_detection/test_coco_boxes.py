"""Boxes that train something, and those that do not."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from PIL import Image

pytest.importorskip('mmdet.models')

from mmengine.registry import METRICS, DefaultScope

from refineclip.detection import OVCocoDataset
from refineclip.detection.coco_boxes import complete_annotations

pytestmark = pytest.mark.mm

META = dict(classes=('helmet', 'vest'), base_classes=('helmet', 'vest'), novel_classes=())
Change = Callable[[dict[str, Any]], Any]


@pytest.fixture(autouse=True)
def mmdet_scope() -> None:
    DefaultScope.get_instance('coco-boxes', scope_name='mmdet')


def write(root: Path, change: Change = lambda content: None, encoding: str = 'utf-8') -> Path:
    """Two images of 64 x 48 px with a box each."""
    for name in 'ab':
        Image.new('RGB', (64, 48)).save(root / f'{name}.jpg')
    content = dict(
        images=[
            dict(id=i, file_name=f'{name}.jpg', width=64, height=48) for i, name in enumerate('ab')
        ],
        annotations=[
            dict(id=i, image_id=i, category_id=5 * i, bbox=[5, 5, 20, 30], area=600, iscrowd=0)
            for i in range(2)
        ],
        categories=[dict(id=0, name='helmet'), dict(id=5, name='vest')],
    )
    change(content)
    (root / 'a.json').write_text(json.dumps(content), encoding=encoding)
    return root


def build(root: Path, **options: Any) -> OVCocoDataset:
    files = dict(ann_file='a.json', data_root=str(root), data_prefix=dict(img=''))
    options.setdefault('filter_cfg', dict(filter_empty_gt=True, min_size=32))
    return OVCocoDataset(**files, metainfo=META, pipeline=[], **options)


def each(**changes: Any) -> Change:
    """Change every annotation; None takes the key away."""

    def change(content: dict[str, Any]) -> None:
        for row in content['annotations']:
            for key, value in changes.items():
                row.update({key: value})
                if value is None:
                    del row[key]

    return change


@pytest.mark.parametrize(
    'change',
    [
        lambda content: None,
        each(area=0),
        each(area=None),
        each(iscrowd=None),
        each(id=None),
        each(area=None, iscrowd=None, id=None, segmentation=[[]]),
    ],
)
def test_what_a_box_may_lack(tmp_path: Path, change: Change) -> None:
    with mock.patch('refineclip.detection.coco_boxes.print_log') as log:
        dataset = build(write(tmp_path, change, 'utf-8-sig'))
    log.assert_not_called()
    boxes = [dataset.get_data_info(index)['instances'] for index in range(2)]
    assert [[(b['bbox'], b['bbox_label'], b['ignore_flag']) for b in own] for own in boxes] == [
        [([5, 5, 25, 35], 0, 0)],
        [([5, 5, 25, 35], 1, 0)],
    ]


def test_area_is_that_of_the_mask_where_there_is_one() -> None:
    row = dict(image_id=1, category_id=1, bbox=[0, 0, 10, 10])
    square = dict(row, segmentation=[[0, 0, 4, 0, 4, 4, 0, 4]])
    content = dict(images=[dict(id=1, width=20, height=20)], annotations=[row, square])
    complete_annotations('a.json', content)
    assert [one['area'] for one in content['annotations']] == [100, 16]
    assert [one['id'] for one in content['annotations']] == [1, 2]


@pytest.mark.parametrize(
    ('change', 'reason'),
    [
        (each(iscrowd=1), '2 crowds'),
        (each(bbox=[0, 0, 0, 0]), '2 smaller than a pixel'),
        (each(bbox=[70, 5, 20, 20]), '2 outside of the image'),
        (each(category_id=9), '2 of other categories'),
        (each(ignore=1), "2 marked 'ignore'"),
        (lambda content: content.update(annotations=[]), '0 boxes left out'),
        (lambda content: content.pop('annotations'), '0 boxes left out'),
    ],
)
def test_nothing_to_train_on_is_an_error(tmp_path: Path, change: Change, reason: str) -> None:
    root = write(tmp_path, change)
    for filter_cfg in (dict(filter_empty_gt=True), None):
        with pytest.raises(ValueError, match=rf'got none in .*a\.json: 0 boxes in .*{reason}'):
            build(root, filter_cfg=filter_cfg)
    assert len(build(root, test_mode=True)) == 2  # a test may well have images without objects


def test_a_share_that_is_lost_is_told(tmp_path: Path) -> None:
    def change(content: dict[str, Any]) -> None:
        content['annotations'][1]['bbox'] = [5, 5, 0, 7]
        content['annotations'].append(dict(content['annotations'][0], id=7, iscrowd=1))

    with mock.patch('refineclip.detection.coco_boxes.print_log') as log:
        build(write(tmp_path, change))
    told = log.call_args[0][0]
    assert '1 boxes in ' in told
    assert '2 boxes left out (1 crowds, 1 smaller than a pixel)' in told


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (each(bbox=None), r"'bbox' in annotations\[0\]"),
        (each(bbox=[]), r'four numbers .* got \[\] in annotations\[0\]'),
        (each(bbox=['5', '5', '9', '9']), 'four numbers'),
        (each(bbox=[float('nan'), 5, 9, 9]), 'four numbers'),
        (each(iscrowd='0'), "0 or 1 as 'iscrowd'"),
        (each(area='600'), "a number as 'area'"),
        (each(category_id=[0]), "'category_id' in each of annotations"),
        (each(image_id='0'), '2 of 2 with an image_id that none has'),
        (each(id=3), 'a different id for each box, got 3 twice'),
        (each(category_id=None, caption='x'), r"'category_id'.*not captions_"),
        (lambda c: c['categories'].append(dict(id=7, name='vest')), "two of name 'vest'"),
        (lambda c: c['images'][1].pop('width'), r"'width' in images\[1\]"),
        (lambda c: c['images'][1].pop('file_name'), "'file_name' in each of images"),
        (lambda c: c.pop('categories'), "list of 'categories'"),
        (lambda c: c.update(annotations=3), "list of 'annotations', got 3"),
        (lambda c: c.update(annotations={}), "list of 'annotations'"),
    ],
)
def test_what_a_box_needs_is_asked_for(tmp_path: Path, change: Change, message: str) -> None:
    with pytest.raises(ValueError, match=rf'a\.json: expected .*{message}'):
        build(write(tmp_path, change))


def test_the_metric_reads_the_same_file(tmp_path: Path) -> None:
    """Without area and crowd marks it would fail when the whole test has run."""
    root = write(tmp_path, each(area=None, iscrowd=None))
    metric = METRICS.build(
        dict(type='FastOVCocoMetric', ann_file=str(root / 'a.json'), metric='bbox')
    )
    rows = metric._coco_api.dataset['annotations']
    assert [(row['area'], row['iscrowd']) for row in rows] == [(600.0, 0)] * 2
