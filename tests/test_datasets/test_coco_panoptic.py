from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import pytest
from PIL import Image

from refineclip.datasets.coco_panoptic import CocoPanoptic

IDS = np.array([[0, 0, 300, 300], [70000, 70000, 300, 300]], dtype=np.int32)


def write_png(path: Path, ids: np.ndarray) -> None:
    rgb = np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=-1).astype(np.uint8)
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(rgb).save(path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    write_png(tmp_path / 'annotations/panoptic_val2017/7.png', IDS)
    (tmp_path / 'val2017').mkdir()
    Image.new('RGB', (4, 2)).save(tmp_path / 'val2017/7.jpg')
    segments = [
        {'id': 300, 'category_id': 90, 'iscrowd': 0, 'bbox': [2, 0, 2, 2], 'area': 4},
        {'id': 70000, 'category_id': 3, 'iscrowd': 1, 'bbox': [0, 1, 2, 1], 'area': 2},
    ]
    content = {
        'images': [
            {'id': 7, 'file_name': '7.jpg', 'width': 4, 'height': 2},
            {'id': 8, 'file_name': '8.jpg', 'width': 4, 'height': 2},
        ],
        'annotations': [{'image_id': 7, 'file_name': '7.png', 'segments_info': segments}],
        # Out of order and with gaps, as COCO's ids are.
        'categories': [
            {'id': 90, 'name': 'grass', 'supercategory': 'plant', 'isthing': 0},
            {'id': 1, 'name': 'person', 'supercategory': 'person', 'isthing': 1},
            {'id': 3, 'name': 'car', 'supercategory': 'vehicle', 'isthing': 1},
        ],
    }
    (tmp_path / 'annotations/panoptic_val2017.json').write_text(json.dumps(content))
    return tmp_path


def test_categories_follow_sorted_ids(root: Path) -> None:
    dataset = CocoPanoptic(root, 'val2017')
    assert dataset.classes == ('person', 'car', 'grass')
    assert dataset.supercategories == ('person', 'vehicle', 'plant')
    assert dataset.class_to_super.tolist() == [0, 1, 2]
    assert dataset.is_thing.tolist() == [True, True, False]


def test_image_without_annotation_is_left_out_and_counted(root: Path) -> None:
    with mock.patch('refineclip.datasets.coco_panoptic.print_log') as log:
        dataset = CocoPanoptic(root)
    assert '1 of 2 images have no annotation' in log.call_args[0][0]
    assert len(dataset) == 1
    assert dataset[0].img_path == root / 'val2017/7.jpg'


def test_ids_of_three_bytes_survive(root: Path) -> None:
    ids = CocoPanoptic(root)[0].read_ids()
    assert ids.dtype == np.int32
    np.testing.assert_array_equal(ids, IDS)


def test_segments_have_pixel_xyxy_boxes_and_category_indices(root: Path) -> None:
    grass, car = CocoPanoptic(root)[0].segments
    assert (grass.id, grass.category, grass.is_thing, grass.is_crowd) == (300, 2, False, False)
    assert (car.id, car.category, car.is_thing, car.is_crowd) == (70000, 1, True, True)
    assert grass.box == (2, 0, 4, 2)
    np.testing.assert_allclose(CocoPanoptic(root)[0].boxes(), [[0.5, 0, 1, 1], [0, 0.5, 0.5, 1]])


def test_labelled_boxes_drop_crowds_and_small_ones(root: Path) -> None:
    image = CocoPanoptic(root)[0]
    boxes, labels = image.labelled_boxes(0.01)
    np.testing.assert_allclose(boxes, [[0.5, 0, 1, 1]])
    assert labels.tolist() == [2]
    assert image.labelled_boxes(0.6)[0].shape == (0, 4)


def test_size_that_differs_from_the_json_is_refused(root: Path) -> None:
    write_png(root / 'annotations/panoptic_val2017/7.png', IDS[:, :3])
    with pytest.raises(ValueError, match='4 x 2 px as the json says, got 3 x 2'):
        CocoPanoptic(root)[0].read_ids()


def test_a_damaged_png_is_named(root: Path) -> None:
    path = root / 'annotations/panoptic_val2017/7.png'
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(ValueError, match=r'7\.png: expected a PNG of segment ids'):
        CocoPanoptic(root)[0].read_ids()


def test_missing_parts_are_named(root: Path) -> None:
    with pytest.raises(FileNotFoundError, match='train2017'):
        CocoPanoptic(root, 'train2017')
    (root / 'annotations/panoptic_val2017.json').write_text('{"images": []}')
    with pytest.raises(ValueError, match=r"list of 'annotations', got only \['images'\]"):
        CocoPanoptic(root)


def test_unknown_category_is_refused(root: Path) -> None:
    file = root / 'annotations/panoptic_val2017.json'
    file.write_text(file.read_text().replace('"category_id": 90', '"category_id": 91'))
    with pytest.raises(ValueError, match='category id 91'):
        CocoPanoptic(root)


def edit(root: Path, change: Callable[[dict[str, Any]], None]) -> None:
    file = root / 'annotations/panoptic_val2017.json'
    content = json.loads(file.read_text())
    change(content)
    file.write_text(json.dumps(content), encoding='utf-8-sig')


def test_categories_of_name_id_and_isthing_are_enough(root: Path) -> None:
    """As Mask2Former's ADE20K file, whose images carry no size and whose segments no box."""
    full = CocoPanoptic(root)

    def strip(content: dict[str, Any]) -> None:
        keys = ('id', 'name', 'isthing')
        content['categories'] = [{key: c[key] for key in keys} for c in content['categories']]
        content['images'] = [
            {key: i[key] for key in ('id', 'file_name')} for i in content['images']
        ]
        [annotation] = content['annotations']
        del annotation['file_name']
        for segment in annotation['segments_info']:
            for key in ('bbox', 'area', 'iscrowd'):
                del segment[key]

    edit(root, strip)
    bare = CocoPanoptic(root)
    assert bare.supercategories == bare.classes == full.classes
    assert bare.class_to_super.tolist() == [0, 1, 2]
    assert bare.is_thing.tolist() == full.is_thing.tolist()
    assert (bare[0].width, bare[0].height) == (4, 2)
    assert bare[0].label_path == full[0].label_path
    assert [s.box for s in bare[0].segments] == [s.box for s in full[0].segments]
    assert [s.area for s in bare[0].segments] == [4, 2]
    assert not any(s.is_crowd for s in bare[0].segments)


def test_without_isthing_classes_are_things(root: Path) -> None:
    edit(root, lambda content: [c.pop('isthing') for c in content['categories'][:2]])
    with mock.patch('refineclip.datasets.coco_panoptic.print_log') as log:
        assert CocoPanoptic(root).is_thing.all()
    assert "2 of 3 categories have no 'isthing'" in log.call_args_list[0][0][0]


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda c: c['categories'].append({'id': 9, 'name': 'car'}), "two of name 'car'"),
        (lambda c: c['categories'][1].pop('name'), r"'name' in categories\[1\]"),
        (lambda c: c['annotations'][0].pop('segments_info'), r'take panoptic_\*\.json, not inst'),
        (
            lambda c: c['annotations'][0]['segments_info'][1].pop('category_id'),
            r"'category_id' in segments_info of image_id 7\[1\]",
        ),
        (lambda c: c['images'][0].pop('file_name'), "'file_name' or 'coco_url'"),
        (lambda c: c['images'][0].pop('id'), r"'id' in images\[0\]"),
    ],
)
def test_what_is_needed_is_asked_for_by_file_key_and_record(
    root: Path, change: Callable[[dict[str, Any]], None], message: str
) -> None:
    edit(root, change)
    with pytest.raises(ValueError, match=rf'panoptic_val2017\.json.*{message}'):
        CocoPanoptic(root)


def test_real_layout(shared_data: Path) -> None:
    splits = [CocoPanoptic(shared_data / 'coco', split) for split in ('train2017', 'val2017')]
    for dataset, num_images, num_boxes in zip(splits, (100, 70), (717, 527), strict=True):
        assert len(dataset.classes) == 133
        assert len(dataset.supercategories) == 27
        assert int(dataset.is_thing.sum()) == 80
        assert len(dataset) == num_images
        # 717 is the number of training boxes that the pilot counted on the same images.
        assert sum(len(image.labelled_boxes()[1]) for image in dataset) == num_boxes
    image = splits[1][0]
    ids = image.read_ids()
    for segment in image.segments:
        rows, columns = np.nonzero(ids == segment.id)
        assert len(rows) == segment.area
        box = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
        np.testing.assert_allclose(segment.box, box, atol=1)


def change(root: Path, where: str, **values: Any) -> None:
    """Give the first record of a list other values."""
    path = root / 'annotations/panoptic_val2017.json'
    content = json.loads(path.read_text())
    lists = {**content, 'segments': content['annotations'][0]['segments_info']}
    lists[where][0].update(values)
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ('where', 'key', 'value'),
    [
        ('categories', 'id', '90'),
        ('categories', 'id', [90]),
        ('categories', 'name', 7),
        ('categories', 'isthing', '0'),
        ('images', 'id', '7'),
        ('images', 'width', '4'),
        ('images', 'file_name', 7),
        ('segments', 'id', '300'),
        ('segments', 'category_id', [90]),
        ('segments', 'bbox', [2, 0, 2]),
        ('segments', 'bbox', ['2', '0', '2', '2']),
        ('segments', 'bbox', [float('nan')] * 4),
        ('segments', 'area', '4'),
        ('segments', 'iscrowd', '0'),
    ],
)
def test_values_of_another_kind_are_named(root: Path, where: str, key: str, value: Any) -> None:
    change(root, where, **{key: value})
    with pytest.raises(ValueError, match=rf"panoptic_val2017\.json: expected .* '{key}'"):
        CocoPanoptic(root)


@pytest.mark.parametrize('box', [None, [0, 0, 0, 0], [-9, 0, 20, 2], [2, 0, 9, 2]])
def test_a_box_that_is_none_is_measured_in_the_png(root: Path, box: list[int] | None) -> None:
    change(root, 'segments', bbox=box)
    assert CocoPanoptic(root)[0].segments[0].box == (2, 0, 4, 2)


def test_null_is_as_absent(root: Path) -> None:
    change(root, 'segments', bbox=None, area=None, iscrowd=None)
    change(root, 'images', width=None, height=None)
    change(root, 'categories', isthing=None)
    dataset = CocoPanoptic(root)
    assert (dataset[0].width, dataset[0].height, dataset[0].segments[0].area) == (4, 2, 4)
    assert dataset.is_thing.tolist() == [True, True, True]


def test_annotations_of_no_image_and_twins_are_said(root: Path) -> None:
    change(root, 'annotations', image_id=70)
    with pytest.raises(ValueError, match=r'1 of 1 with .*70; images begin with \[7, 8\]'):
        CocoPanoptic(root)
    change(root, 'annotations', image_id=7)
    change(root, 'images', id=8)
    with pytest.raises(ValueError, match='each image once, got two of id 8'):
        CocoPanoptic(root)
