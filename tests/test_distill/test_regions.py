from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import TASK_UTILS

from refineclip.distill.regions import GridRegions, ProposalRegions, RandomCropRegions


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_grid_has_the_24_published_shapes() -> None:
    shapes = GridRegions().shapes
    assert len(shapes) == len(set(shapes)) == 24
    assert Counter(m for m, _ in shapes) == {1: 2, 2: 4, 3: 5, 4: 5, 5: 4, 6: 4}
    assert (1, 3) not in shapes
    assert (6, 2) not in shapes
    assert (3, 2) in shapes


def test_grid_cells_by_hand() -> None:
    sampler = GridRegions()
    sampler.shapes = [(2, 3)]
    # 10 px wide: column edges 0, 3.33, 6.67, 10 -> 0, 3, 7, 10; 5 px high: 0, 2.5 -> 2 (even), 5.
    cells = sampler(10, 5, rng())
    assert cells.dtype == np.float32
    expected = [
        [x1, y1, x2, y2]
        for y1, y2 in [(0, 0.4), (0.4, 1)]
        for x1, x2 in [(0, 0.3), (0.3, 0.7), (0.7, 1)]
    ]
    assert np.allclose(sorted(cells.tolist()), sorted(expected), atol=1e-6)
    assert cells.tolist() != sorted(cells.tolist())  # shuffled


def test_grid_draws_every_shape_and_keeps_at_most_twenty() -> None:
    sampler, generator = GridRegions(), rng()
    counts = Counter(len(sampler(640, 480, generator)) for _ in range(2000))
    sizes = {min(m * n, 20) for m, n in sampler.shapes}
    assert set(counts) == sizes
    assert max(counts) == 20
    # Shapes with more than 20 cells: (4,6) (5,5) (5,6) (6,4) (6,5) (6,6), and (4,5) (5,4) have 20.
    assert abs(counts[20] / 2000 - 8 / 24) < 0.04


def test_grid_of_an_image_smaller_than_the_split() -> None:
    sampler, generator = GridRegions(), rng()
    for _ in range(200):
        cells = sampler(3, 4, generator)
        assert ((cells[:, 2:] - cells[:, :2]) > 0).all()


def test_random_crops_have_the_asked_area_and_ratio() -> None:
    sampler = RandomCropRegions(
        [
            {'num': 3, 'area': (0.2, 0.5), 'ratio': (2 / 3, 3 / 2)},
            {'num': 5, 'area': (0.03, 0.1)},
        ]
    )
    generator = rng()
    for _ in range(200):
        boxes = sampler(640, 480, generator)
        assert boxes.shape == (8, 4)
        assert boxes.min() >= 0
        assert boxes.max() <= 1
        sides = (boxes[:, 2:] - boxes[:, :2]) * [640, 480]
        area = sides.prod(axis=1) / (640 * 480)
        ratio = sides[:, 0] / sides[:, 1]
        assert (area[:3] > 0.198).all()
        assert (area[:3] < 0.502).all()
        assert (area[3:] > 0.029).all()
        assert (area[3:] < 0.102).all()
        assert (ratio > 0.65).all()
        assert (ratio < 1.53).all()
        # Whole-pixel edges, so that the crop is exactly the region.
        pixels = boxes * [640, 480, 640, 480]
        assert np.abs(pixels - pixels.round()).max() < 1e-3


def test_random_crop_keeps_its_area_in_a_panorama() -> None:
    sampler = RandomCropRegions([{'num': 4, 'area': (0.5, 0.5), 'ratio': (1, 1)}])
    boxes = sampler(800, 50, rng())
    # A square of half the area would be 141 px high: the box takes the full height instead.
    assert np.allclose(boxes[:, 3] - boxes[:, 1], 1)
    assert np.allclose(boxes[:, 2] - boxes[:, 0], 0.5, atol=0.002)


@pytest.mark.parametrize(
    ('group', 'message'),
    [
        ({'num': 0, 'area': (0.1, 0.2)}, 'num: expected an integer >= 1, got 0'),
        ({'num': 1, 'area': (0.5, 0.2)}, 'area'),
        ({'num': 1, 'area': (0.5, 1.2)}, 'area'),
        ({'num': 1, 'area': (0.1, 0.2), 'ratio': (0, 1)}, 'ratio'),
        ({'num': 1}, "keys 'num', 'area'"),
        ({'num': 1, 'area': (0.1, 0.2), 'scale': 1}, "got .*'scale'"),
    ],
)
def test_random_crop_groups_are_checked(group: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        RandomCropRegions([group])


def test_same_generator_same_boxes() -> None:
    for sampler in (GridRegions(), RandomCropRegions()):
        assert np.array_equal(sampler(64, 48, rng(4)), sampler(64, 48, rng(4)))
        assert not np.array_equal(sampler(64, 48, rng(4)), sampler(64, 48, rng(5)))


@pytest.fixture
def proposal_file(tmp_path: Path) -> str:
    content = {
        'a.jpg': [
            [10, 10, 18, 18],  # 64 px, just valid
            [10, 10, 17, 18],  # 56 px, too small
            [-20, -20, 50, 40],  # clipped to 50 x 40
            [90, 90, 300, 300],  # clipped to 10 x 10
            [200, 200, 300, 300],  # outside
            [40, 40, 30, 30],  # inverted
        ],
        'small.jpg': [[0, 0, 4, 4]],
        'none.jpg': [],
    }
    path = tmp_path / 'proposals.json'
    path.write_text(json.dumps(content))
    return str(path)


def test_proposals_by_hand(proposal_file: str) -> None:
    sampler = TASK_UTILS.build({'type': 'ProposalRegions', 'proposal_file': proposal_file})
    boxes = sampler(100, 100, rng(), 'root/a.jpg')
    expected = [[0, 0, 0.5, 0.4], [0.1, 0.1, 0.18, 0.18], [0.9, 0.9, 1, 1]]
    assert np.allclose(sorted(boxes.tolist()), expected)


def test_proposals_are_drawn_first_and_filtered_then(proposal_file: str) -> None:
    """CLIPSelf's published order: two of six boxes are drawn, and three of the six are valid."""
    sampler = ProposalRegions(proposal_file, max_regions=2)
    draws = [sampler(100, 100, rng(seed), 'a.jpg') for seed in range(300)]
    corner = [[0, 0, 0.25, 0.25]]
    fallbacks = sum(draw.tolist() == corner for draw in draws)
    pairs = sum(len(draw) == 2 for draw in draws)
    # Both drawn are invalid, or both valid, in 3 of 15 pairs each: 60 of 300, s.d. 7.
    assert abs(fallbacks - 60) < 25
    assert abs(pairs - 60) < 25
    # In both orders: 2 x 3 pairs of valid boxes.
    assert len({tuple(map(tuple, d.round(2).tolist())) for d in draws if len(d) == 2}) == 6


def test_proposals_in_the_order_of_the_file(proposal_file: str) -> None:
    sampler = ProposalRegions(proposal_file, max_regions=2, shuffle=False, area_px=None)
    # The second has 56 square pixels, which the published filter would drop.
    expected = [[0.1, 0.1, 0.18, 0.18], [0.1, 0.1, 0.17, 0.18]]
    for seed in range(3):
        assert np.allclose(sampler(100, 100, rng(seed), 'a.jpg'), expected)


@pytest.mark.parametrize('name', ['small.jpg', 'none.jpg', 'unknown.jpg'])
def test_no_valid_proposal_gives_the_published_corner(proposal_file: str, name: str) -> None:
    boxes = ProposalRegions(proposal_file)(100, 60, rng(), name)
    assert boxes.tolist() == [[0, 0, 0.25, 0.25]]
    assert boxes.dtype == np.float32


def test_proposals_must_belong_to_the_images(proposal_file: str) -> None:
    sampler = ProposalRegions(proposal_file)
    sampler.check_images(['a.jpg', 'unknown.jpg'])
    with pytest.raises(ValueError, match=r"none for any of 2 images.*x\.jpg.*'a\.jpg'"):
        sampler.check_images(['x.jpg', 'y.jpg'])


def test_labels(tmp_path: Path, proposal_file: str) -> None:
    with pytest.raises(ValueError, match="without 'categories'"):
        ProposalRegions(proposal_file, with_labels=True)
    content = {
        'images': [{'id': 1, 'file_name': 'a.jpg'}],
        'categories': [{'id': 5}, {'id': 8}],
        'annotations': [
            {'image_id': 1, 'category_id': 8, 'bbox': [0, 0, 20, 20]},
            {'image_id': 1, 'category_id': 5, 'bbox': [50, 50, 20, 20]},
        ],
    }
    path = tmp_path / 'coco.json'
    path.write_text(json.dumps(content))
    sampler = ProposalRegions(str(path), with_labels=True)
    boxes, labels = sampler(100, 100, rng(), 'a.jpg')
    assert {(x, label) for (x, *_), label in zip(boxes.tolist(), labels, strict=True)} == {
        (0, 1),
        (0.5, 0),
    }
    boxes, labels = sampler(100, 100, rng(), 'unknown.jpg')
    assert (boxes.shape, labels.shape, labels.dtype) == ((0, 4), (0,), np.int64)


def test_nouns_are_sampled_as_published() -> None:
    """CLIPSelf's RegionCLIP baseline: the first 20 annotations, whatever their area."""
    root = Path(__file__).resolve().parents[2]
    config = Config.fromfile(root / 'configs/_base_/datasets/coco_regions_nouns.py')
    sampler = config.train_dataloader.dataset.region_sampler
    assert (sampler.max_regions, sampler.shuffle, sampler.area_px) == (20, False, None)
    assert sampler.with_labels
