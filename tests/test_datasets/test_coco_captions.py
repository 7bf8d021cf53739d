from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from refineclip.datasets import coco_captions
from refineclip.datasets.coco_captions import CocoCaptions


@pytest.fixture
def write(tmp_path):
    def make(captions, num_images=3):
        images = [dict(id=10 + i, file_name=f'{i}.png') for i in range(num_images)]
        for image in images:
            Image.new('RGB', (8, 8)).save(tmp_path / image['file_name'])
        annotations = [
            dict(id=i, image_id=image, caption=text) for i, (image, text) in enumerate(captions)
        ]
        file = tmp_path / 'captions.json'
        file.write_text(json.dumps(dict(images=images, annotations=annotations)))
        return file, tmp_path

    return make


CAPTIONS = [(12, 'c1 '), (10, 'a1'), (12, 'c2'), (11, 'b1'), (12, 'c3'), (10, 'a2')]


def test_captions_follow_their_images(write):
    data = CocoCaptions(*write(CAPTIONS))
    assert [path.name for path in data.paths] == ['0.png', '1.png', '2.png']
    assert data.captions == ['a1', 'a2', 'b1', 'c1', 'c2', 'c3']
    assert data.owner.tolist() == [0, 0, 1, 2, 2, 2]
    assert len(data) == 3


def test_first_captions_of_an_image(write):
    data = CocoCaptions(*write(CAPTIONS), captions_per_image=2)
    assert data.captions == ['a1', 'a2', 'b1', 'c1', 'c2']
    assert data.owner.tolist() == [0, 0, 1, 2, 2]


def test_select_images(write):
    rows, owner = CocoCaptions(*write(CAPTIONS)).select(np.array([0, 2]))
    assert rows.tolist() == [0, 1, 3, 4, 5]
    assert owner.tolist() == [0, 0, 1, 1, 1]


def test_images_without_captions_are_left_out_and_counted(write, monkeypatch):
    texts = []
    monkeypatch.setattr(coco_captions, 'print_log', lambda text, **kwargs: texts.append(text))
    data = CocoCaptions(*write([(10, 'a'), (12, 'c')]))
    assert [path.name for path in data.paths] == ['0.png', '2.png']
    assert data.owner.tolist() == [0, 1]
    assert '1 of 3 images have no caption' in texts[0]


def test_captions_of_missing_images(write):
    with pytest.raises(ValueError, match=r'captions of 1 others \(image_id \[99\]\)'):
        CocoCaptions(*write([*CAPTIONS, (99, 'lost')]))
    file, root = write(CAPTIONS)
    (root / '1.png').unlink()
    with pytest.raises(FileNotFoundError, match=r'1 that do not exist \(first: .*1\.png'):
        CocoCaptions(file, root)


def test_wrong_input(write, tmp_path):
    with pytest.raises(ValueError, match='captions_per_image'):
        CocoCaptions(*write(CAPTIONS), captions_per_image=0)
    with pytest.raises(ValueError, match='blank one for image 11'):
        CocoCaptions(*write([*CAPTIONS, (11, ' ')]))
    with pytest.raises(ValueError, match='two or more images, got 1'):
        CocoCaptions(*write([(10, 'a')]))
    with pytest.raises(FileNotFoundError, match='json of captions'):
        CocoCaptions(tmp_path / 'nowhere.json', tmp_path)
    with pytest.raises(FileNotFoundError, match='folder of images'):
        CocoCaptions(write(CAPTIONS)[0], tmp_path / 'nowhere')
    other = tmp_path / 'other.json'
    for content, message in (
        (dict(images=[]), "with a list of 'annotations', got only"),
        ([1, 2], 'got a list'),
        (dict(images=[], annotations=[dict(image_id=1, bbox=[])]), 'not instances_'),
    ):
        other.write_text(json.dumps(content))
        with pytest.raises(ValueError, match=message):
            CocoCaptions(other, tmp_path)
