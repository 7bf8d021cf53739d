from __future__ import annotations

import json
from pathlib import Path

import pytest

from refineclip.datasets.proposals import load_proposals, proposals_of


def write(path: Path, content: object) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_own_layout_with_and_without_score(tmp_path: Path) -> None:
    content = {'a.jpg': [[1, 2, 3, 4], [5, 6, 7, 8, 0.9]], 'x/a.jpg': [], 'b.jpg': [[0, 0, 9, 9]]}
    proposals = load_proposals(write(tmp_path / 'p.json', content))
    assert proposals_of(proposals, 'root/a.jpg').tolist() == [[1, 2, 3, 4, -1], [5, 6, 7, 8, -1]]
    # The longest matching tail wins.
    assert proposals_of(proposals, 'root/x/a.jpg').shape == (0, 5)
    assert proposals_of(proposals, 'root/y/b.jpg').shape == (1, 5)
    assert proposals_of(proposals, 'root/c.jpg') is None


def test_coco_results_match_by_number(tmp_path: Path) -> None:
    content = [
        {'image_id': 139, 'bbox': [10, 20, 30, 40], 'category_id': 1, 'score': 0.5},
        {'image_id': 139, 'bbox': [1, 1, 1, 1]},
    ]
    proposals = load_proposals(write(tmp_path / 'p.json', content))
    rows = proposals_of(proposals, 'val2017/000000000139.jpg')
    assert rows.tolist() == [[10, 20, 40, 60, -1], [1, 1, 2, 2, -1]]
    assert proposals_of(proposals, 'val2017/000000000140.jpg') is None


def test_coco_annotations_carry_labels(tmp_path: Path) -> None:
    content = {
        'images': [{'id': 7, 'file_name': 'a.jpg'}],
        'categories': [{'id': 90}, {'id': 3}],
        'annotations': [{'image_id': 7, 'bbox': [0, 0, 2, 3], 'category_id': 3}],
    }
    proposals = load_proposals(write(tmp_path / 'p.json', content))
    assert proposals_of(proposals, 'a.jpg').tolist() == [[0, 0, 2, 3, 1]]


@pytest.mark.parametrize(
    'content',
    [
        '{"a.jpg": [[1, 2]]}',
        '{"a.jpg": [[1, 2, 3, NaN]]}',
        '{"a.jpg": 3}',
        '[{"bbox": [1, 2, 3, 4]}]',
        '{"images": [{"id": 1, "file_name": Infinity}], "annotations": []}',
        '{"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": [{"image_id": 1}]}',
        '{"images": [{"id": 1, "file_name": "a.jpg"}, {"id": 1, "file_name": "b.jpg"}],'
        ' "annotations": []}',
        '{"images": [{"id": 1, "file_name": "a.jpg"}],'
        ' "annotations": [{"image_id": 2, "bbox": [0, 0, 1, 1]}]}',
        '[[1, 2]]',
        '3',
        'no json',
    ],
)
def test_other_content_is_refused(tmp_path: Path, content: str) -> None:
    with pytest.raises(ValueError, match=r'Expected .*p\.json to map file names'):
        load_proposals(write(tmp_path / 'p.json', content))


def test_missing_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r'gone\.json'):
        load_proposals(tmp_path / 'gone.json')
