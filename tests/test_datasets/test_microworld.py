"""The drawn world: repeatable, exactly labelled, and written as COCO is."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from refineclip.datasets.coco_captions import CocoCaptions
from refineclip.datasets.coco_panoptic import CocoPanoptic
from refineclip.datasets.microworld import (
    KINDS,
    NAMED_KINDS,
    PROMPTS,
    SCENES,
    Microworld,
    MicroworldPairs,
    write_split,
)
from refineclip.datasets.microworld.coco_layout import SEMANTIC_CLASSES, _run_lengths
from refineclip.datasets.microworld.painting import inside
from refineclip.datasets.microworld.scene import _caption
from refineclip.datasets.microworld.sheet import contact_sheet
from refineclip.datasets.microworld.vocabulary import HOME_KINDS, HUES, SCENE_HUES, WORDS
from refineclip.datasets.ov_splits import get_split


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_split(tmp_path / 'world', 'val', 4)


def test_an_image_is_a_function_of_seed_split_and_index():
    world = Microworld('val')
    world[3]  # what was drawn before must not matter
    first, again = world[5], Microworld('val')[5]
    assert np.array_equal(first.image, again.image)
    assert np.array_equal(first.instances, again.instances)
    assert first.caption == again.caption
    for other in (Microworld('train')[5], Microworld('val', seed=1)[5], world[6]):
        assert not np.array_equal(first.image, other.image)


@pytest.mark.parametrize(
    ('view', 'size', 'objects'), [('pretrain', 64, (1, 4)), ('dense', 128, (3, 5))]
)
def test_views_have_their_sizes_and_numbers_of_objects(view, size, objects):
    scenes = [Microworld('x', view)[index] for index in range(30)]
    assert {scene.image.shape for scene in scenes} == {(size, size, 3)}
    assert {scene.image.dtype for scene in scenes} == {np.dtype(np.uint8)}
    counts = [len(scene.kinds) for scene in scenes]
    assert (min(counts), max(counts)) == objects
    for scene in scenes:
        assert scene.instances.max() <= len(scene.kinds)
        assert (scene.instances == 0).any()


def test_unknown_view_is_refused():
    with pytest.raises(ValueError, match=r"view: expected one of .* got 'train'"):
        Microworld('val', 'train')


def test_kinds_share_hues_with_each_other_and_with_backgrounds():
    for hue in range(len(HUES)):
        kinds = [kind for kind in KINDS if kind.hue == hue]
        assert len(kinds) == 3
        assert len({(kind.pattern, kind.shape) for kind in kinds}) == 3
    assert {hue for pair in SCENE_HUES for hue in pair} == set(range(len(HUES)))
    assert len({(kind.hue, kind.pattern, kind.shape) for kind in KINDS}) == len(KINDS) == 24


def test_homes_and_unnamed_kinds_have_their_shares():
    scenes = [Microworld('shares', 'pretrain')[index] for index in range(400)]
    at_home = [kind in HOME_KINDS[s.scene] for s in scenes for kind in s.kinds]
    # .8 from home, and a third of the uniform rest.
    assert np.mean(at_home) == pytest.approx(0.8 + 0.2 / 3, abs=0.04)
    unnamed = np.mean([kind >= NAMED_KINDS for s in scenes for kind in s.kinds])
    assert 0.2 < unnamed < 0.45


def test_captions_say_only_what_is_visible_and_named():
    names = {kind.name: index for index, kind in enumerate(KINDS[:NAMED_KINDS])}
    for index in range(200):
        scene = Microworld('captions', 'pretrain')[index]
        words = scene.caption.split()
        assert set(words) <= set(WORDS)
        assert len(words) > 0
        for word in words:
            if word in names:
                positions = np.flatnonzero(np.array(scene.kinds) == names[word])
                assert max((scene.instances == p + 1).sum() for p in positions) >= 20
            if word in SCENES:
                assert word == SCENES[scene.scene]


def test_caption_of_unnamed_or_hidden_objects_is_the_background():
    rng = np.random.default_rng(0)
    seen = np.ones((8, 8), np.uint8)
    assert _caption(rng, [NAMED_KINDS], seen, 2) == 'on sand'
    assert _caption(rng, [0], 0 * seen, 2) == 'on sand'
    assert _caption(rng, [0], seen, 2) in ('a dax', 'a dax on sand')


def test_shapes_by_hand():
    u, v = np.array([0.0, 0.0, 0.8, 0.95]), np.array([0.0, 0.75, 0.8, 0.0])
    expected = {
        'disc': [1, 1, 0, 1],
        'square': [1, 1, 1, 0],
        'triangle': [1, 1, 0, 0],
        'ring': [0, 1, 0, 1],
        'cross': [1, 1, 0, 1],
        'diamond': [1, 1, 0, 1],
    }
    for shape, row in enumerate(expected.values()):
        assert inside(shape, u, v).tolist() == [bool(value) for value in row], shape


def test_written_masks_are_the_drawn_ones(root: Path):
    dataset, world = CocoPanoptic(root, 'val'), Microworld('val')
    assert dataset.classes == (*(kind.name for kind in KINDS), *SCENES)
    assert dataset.is_thing.tolist() == [True] * len(KINDS) + [False] * len(SCENES)
    for index in range(4):
        image, scene = dataset[index], world[index]
        ids = image.read_ids()
        assert np.array_equal(ids, scene.instances.astype(int) + 1)
        assert np.array_equal(np.asarray(Image.open(image.img_path)), scene.image)
        for segment in image.segments:
            rows, columns = np.nonzero(ids == segment.id)
            x1, y1, x2, y2 = segment.box
            assert (x1, y1) == (columns.min(), rows.min())
            assert (x2, y2) == (columns.max() + 1, rows.max() + 1)
            assert segment.area == len(rows)
            expected = len(KINDS) + scene.scene if segment.id == 1 else scene.kinds[segment.id - 2]
            assert segment.category == expected


def test_written_instances_and_captions(root: Path):
    content = json.loads((root / 'annotations/instances_val.json').read_text())
    panoptic = CocoPanoptic(root, 'val')
    assert len(content['categories']) == len(KINDS)
    for annotation in content['annotations']:
        counts = annotation['segmentation']['counts']
        flat = np.repeat(np.arange(len(counts)) % 2, counts)
        mask = flat.reshape(annotation['segmentation']['size'], order='F').astype(bool)
        assert mask.sum() == annotation['area']
        ids = panoptic[annotation['image_id']].read_ids()
        assert len(set(ids[mask])) == 1
        assert (ids == ids[mask][0]).sum() == mask.sum()
    captions = CocoCaptions(root / 'annotations/captions_val.json', root / 'val')
    assert len(captions) == 4


def test_what_is_held_out_of_training(root: Path):
    split = get_split('microworld')
    assert split.novel == ('fep', 'kiv', 'pim', 'vash')
    assert set(split.base) | set(split.novel) == set(split.classes)
    content = json.loads((root / 'annotations/instances_val_base.json').read_text())
    names = {category['id']: category['name'] for category in content['categories']}
    assert {names[one['category_id']] for one in content['annotations']} <= set(split.base)
    panoptic = CocoPanoptic(root, 'val')
    for index in range(4):
        image = panoptic[index]
        for folder, known in (('val', SEMANTIC_CLASSES), ('val_base', (*split.base, *SCENES))):
            path = root / f'annotations/semantic_{folder}' / Path(image.img_path).name
            labels = np.asarray(Image.open(path))
            for segment in image.segments:
                name = panoptic.classes[segment.category]
                value = SEMANTIC_CLASSES.index(name) if name in known else 255
                assert (labels[image.read_ids() == segment.id] == value).all()


def test_run_lengths_by_hand():
    mask = np.array([[1, 0], [1, 1]], bool)
    assert _run_lengths(mask) == dict(size=[2, 2], counts=[0, 2, 1, 1])
    assert _run_lengths(~mask) == dict(size=[2, 2], counts=[2, 1, 1])


def test_writing_again_writes_the_same_bytes(root: Path, tmp_path: Path):
    again = write_split(tmp_path / 'again', 'val', 4)
    files = sorted(path.relative_to(root) for path in root.rglob('*') if path.is_file())
    assert len(files) == 4 + 4 + 2 * 4 + 4
    for name in files:
        assert (root / name).read_bytes() == (again / name).read_bytes(), name


def test_no_image_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match='num_images: expected 1 or more, got 0'):
        write_split(tmp_path, 'val', 0)


def test_pairs_are_the_pretraining_views():
    pairs, world = MicroworldPairs(3, seed=4), Microworld('pretrain', 'pretrain', 4)
    item = pairs[2]
    assert item['inputs'].shape == (3, 64, 64)
    assert np.array_equal(item['inputs'].permute(1, 2, 0).numpy(), world[2].image)
    assert item['data_samples'] == world[2].caption
    assert len(pairs) == 3
    assert pairs[2]['inputs'] is item['inputs']


def test_prompts_name_what_has_a_name():
    assert len(PROMPTS) == NAMED_KINDS + len(SCENES)
    assert PROMPTS['dax'] == 'a dax'
    assert PROMPTS['night'] == 'on night'


def test_contact_sheet_shows_images():
    sheet = np.asarray(contact_sheet())
    assert sheet.shape[2] == 3
    assert sheet.std() > 20
