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
    require_current,
    write_split,
)
from refineclip.datasets.microworld.captions import caption
from refineclip.datasets.microworld.coco_layout import SEMANTIC_CLASSES, _run_lengths
from refineclip.datasets.microworld.outlines import OUTLINES, arc, ellipse, star
from refineclip.datasets.microworld.scene import _Drawing
from refineclip.datasets.microworld.sheet import contact_sheet
from refineclip.datasets.microworld.textures import texture
from refineclip.datasets.microworld.vocabulary import (
    COLOURS,
    HOME_KINDS,
    NAMES,
    PLACES,
    SCENE_TONES,
    WORDS,
)
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


def test_no_colour_tells_a_kind_or_a_place():
    assert len(KINDS) == len({kind.name for kind in KINDS}) == 24
    for kind in KINDS:
        assert len(set(kind.schemes)) == 3
        assert len({scheme[0] for scheme in kind.schemes}) == 3
        assert {colour for scheme in kind.schemes for colour in scheme} <= set(COLOURS)
    schemes = [scheme for kind in KINDS for scheme in kind.schemes]
    assert len(set(schemes)) > 60
    firsts = [scheme[0] for scheme in schemes]
    tones = {colour for pairs in SCENE_TONES.values() for pair in pairs for colour in pair}
    assert all(firsts.count(colour) >= 2 for colour in COLOURS if colour in firsts)
    assert len(tones & set(firsts)) >= 9


def test_outlines_fill_their_square():
    assert set(OUTLINES) == {kind.name for kind in KINDS}
    for name, parts in OUTLINES.items():
        points = np.concatenate([part.points for part in parts])
        assert np.abs(points).max() <= 1, name
        assert np.ptp(points, axis=0).max() > 1.6, name
        assert {0, 1} <= {part.colour for part in parts} <= {0, 1, 2}, name


def test_outlines_by_hand():
    quarter = arc((1, 1), (2, 1), (0, 0.25))
    assert np.allclose(quarter[[0, -1]], [[3, 1], [1, 2]], atol=1e-6)  # right, then down
    ring = ellipse(1, (0, 0), (1, 1), hole=0.5).points
    assert np.allclose(np.linalg.norm(ring, axis=1), np.repeat([1, 0.5], len(ring) // 2))
    tips = star(0, 1, 0.5, 5).points
    assert np.allclose(tips[0], [0, -1], atol=1e-6)
    assert np.allclose(np.linalg.norm(tips, axis=1), [1, 0.5] * 5)


@pytest.mark.parametrize('scene', SCENES)
def test_textures_are_shares_that_vary(scene: str):
    y, x = np.mgrid[:64, :64].astype(np.float32)
    share = texture(scene, x, y, 1.0, 1.0)
    assert share.dtype == np.float32
    assert 0 <= share.min() < 0.4
    assert 0.6 < share.max() <= 1


def test_homes_and_unnamed_kinds_have_their_shares():
    scenes = [Microworld('shares', 'pretrain')[index] for index in range(400)]
    at_home = [kind in HOME_KINDS[s.scene] for s in scenes for kind in s.kinds]
    # .8 from home, and a third of the uniform rest.
    assert np.mean(at_home) == pytest.approx(0.8 + 0.2 / 3, abs=0.04)
    unnamed = np.mean([kind >= NAMED_KINDS for s in scenes for kind in s.kinds])
    assert 0.2 < unnamed < 0.45


def test_captions_say_only_what_is_visible_and_named():
    singular = {kind.name: index for index, kind in enumerate(KINDS[:NAMED_KINDS])}
    plural = {kind.plural: index for index, kind in enumerate(KINDS[:NAMED_KINDS])}
    for index in range(200):
        scene = Microworld('captions', 'pretrain')[index]
        words = scene.caption.replace(',', '').split()
        assert set(words) <= set(WORDS)
        assert len(words) > 0
        for word in words:
            if word in singular or word in plural:
                kind = singular.get(word, plural.get(word))
                positions = np.flatnonzero(np.array(scene.kinds) == kind)
                assert max((scene.instances == p + 1).sum() for p in positions) >= 20
            if word in SCENES:
                assert word == SCENES[scene.scene]


def test_captions_by_hand():
    def said(kinds: list[int], colours: list[str], scene: int = 0) -> set[str]:
        return {caption(np.random.default_rng(s), kinds, colours, scene) for s in range(200)}

    fish, house, snail = (
        next(i for i, k in enumerate(KINDS) if k.name == n) for n in ('fish', 'house', 'snail')
    )
    assert said([], []) == said([snail], ['red']) == {'at sea'}
    assert said([fish], ['orange'], 5) == {
        'a fish',
        'a fish in snow',
        'an orange fish',
        'an orange fish in snow',
    }
    assert said([fish] * 3, ['red'] * 3, 3) == {'three fish', 'three fish at night'}
    both = said([house, fish, house], ['red', 'blue', 'blue'])
    assert {'two houses and a blue fish at sea', 'a fish and two houses', 'two houses'} <= both
    many = said([fish, house, 3], ['red'] * 3)
    assert {'a fish, a house and a tree', 'a red house, a fish and a tree at sea'} <= many


def test_things_come_mirrored_in_their_colours_and_in_others():
    key = next(index for index, kind in enumerate(KINDS) if kind.name == 'key')
    plain, sides, mains = np.full((64, 64, 3), 0.5, np.float32), [], []
    for seed in range(60):
        drawing = _Drawing(plain)
        mains.append(
            drawing.draw_thing(np.random.default_rng(seed), key, 26.0, np.full(2, 32.0), 1)
        )
        image, numbers = drawing.finish()
        columns = (numbers == 1).sum(axis=0)
        sides.append(columns[:32].sum() > columns[32:].sum())  # where the bow is
        assert np.abs(image[numbers == 0] - 0.5).mean() < 0.05
        assert image[numbers == 1].std(axis=0).max() > 0.02  # parts differ in colour
    assert 10 < sum(sides) < 50
    own = {scheme[0] for scheme in KINDS[key].schemes}
    assert own < set(mains)
    assert 0.02 < np.mean([main not in own for main in mains]) < 0.3


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
    assert split.novel == ('tree', 'mushroom', 'key', 'bell')
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


def test_images_of_another_version_are_refused(root: Path, tmp_path: Path):
    require_current(root, 'val')
    with pytest.raises(FileNotFoundError, match=r'expected the split train .* draw it: python -m'):
        require_current(root, 'train')
    path = root / 'annotations/panoptic_val.json'
    content = json.loads(path.read_text())
    del content['info']['version']  # the first one had none
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r'version 2 of the microworld .* got version 1; draw it'):
        require_current(root, 'val')


def test_no_image_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match='num_images: expected 1 or more, got 0'):
        write_split(tmp_path, 'val', 0)


def test_pairs_are_views_with_captions():
    pairs, world = MicroworldPairs(3, seed=4), Microworld('pretrain', 'pretrain', 4)
    item = pairs[2]
    assert item['inputs'].shape == (3, 64, 64)
    assert np.array_equal(item['inputs'].permute(1, 2, 0).numpy(), world[2].image)
    assert item['data_samples'] == world[2].caption
    assert len(pairs) == 3
    assert pairs[2]['inputs'] is item['inputs']


def test_pairs_of_half_the_side_are_means_of_four_pixels():
    small = MicroworldPairs(1, 'dense', reduce=2)[0]['inputs']
    image = Microworld('pretrain', 'dense')[0].image.astype(float)
    means = image.reshape(64, 2, 64, 2, 3).mean(axis=(1, 3))
    assert small.shape == (3, 64, 64)
    assert np.abs(small.permute(1, 2, 0).numpy() - means).max() <= 0.5


def test_pairs_of_no_whole_squares_are_refused():
    with pytest.raises(ValueError, match=r'reduce: expected a divisor of the 64 px .* got 3'):
        MicroworldPairs(1, reduce=3)


def test_prompts_name_what_has_a_name():
    assert list(PROMPTS) == [*NAMES, *SCENES]
    assert PROMPTS['boat'] == 'a boat'
    assert PROMPTS['sea'] == PLACES['sea'] == 'at sea'


def test_contact_sheet_shows_images():
    sheet = np.asarray(contact_sheet())
    assert sheet.shape[2] == 3
    assert sheet.std() > 20
