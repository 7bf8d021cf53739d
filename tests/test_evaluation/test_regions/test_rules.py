"""CLIPSelf's rules, one by one, with the right values worked out by hand."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from refineclip.datasets.coco_panoptic import CocoPanoptic, PanopticImage, PanopticSegment
from refineclip.encoders.text.templates import fill_template
from refineclip.evaluation.regions import (
    CLIPSELF,
    OURS,
    RegionFeatures,
    RegionRules,
    region_rules,
)
from refineclip.evaluation.regions.class_texts import class_texts
from refineclip.evaluation.regions.panoptic_regions import label_image, resized_masks
from refineclip.evaluation.regions.pooling import pool_image, score_regions


def image_of(*segments: PanopticSegment) -> PanopticImage:
    return PanopticImage(Path('x.jpg'), Path('x.png'), 64, 48, segments)


def segment(
    number: int, box: tuple[float, float, float, float], thing: bool = True, crowd: bool = False
) -> PanopticSegment:
    return PanopticSegment(number, number - 1, thing, crowd, box, 1)


def test_tokens_are_normalised_before_pooling() -> None:
    # Tokens (10, 0), (0, 1), (0, 1): their mean points at the first axis, the mean of their
    # directions at the second.
    dense_map = torch.tensor([[[10.0, 0, 0]], [[0, 1.0, 1.0]]])
    box, mask = torch.tensor([[0, 0.0, 0, 1, 1]]), torch.ones(1, 1, 3)
    for rules, expected in ((OURS, [10 / 3, 2 / 3]), (CLIPSELF, [1 / 3, 2 / 3])):
        boxed, masked = pool_image(dense_map, box, mask, rules)
        torch.testing.assert_close(boxed, torch.tensor([expected]))
        torch.testing.assert_close(masked, torch.tensor([expected]))


@pytest.mark.parametrize(('rules', 'expected'), [(CLIPSELF, [0, 1]), (OURS, [0])])
def test_crowds(rules: RegionRules, expected: list[int]) -> None:
    image = image_of(segment(1, (0, 0, 20, 20)), segment(2, (0, 0, 20, 20), crowd=True))
    assert rules.choose(image, rules.boxes(image, np.zeros((48, 64)))) == expected


def test_no_more_than_a_hundred_segments_of_an_image() -> None:
    image = image_of(*(segment(i + 1, (0, 0, 20, 20)) for i in range(101)))
    boxes = CLIPSELF.boxes(image, np.zeros((48, 64)))
    assert CLIPSELF.choose(image, boxes) == list(range(100))
    assert OURS.choose(image, boxes) == list(range(101))


def test_box_of_stuff_spans_its_pixels() -> None:
    ids = np.zeros((48, 64), dtype=np.int32)
    ids[10:18, 4:13] = 1  # 9 x 8 px
    image = image_of(segment(1, (4, 10, 13, 18), thing=False))
    assert OURS.boxes(image, ids).tolist() == [[4, 10, 13, 18]]
    # From the first to the last pixel: 8 x 7 = 56 square pixels, below the least area of 64.
    assert CLIPSELF.boxes(image, ids).tolist() == [[4, 10, 12, 17]]
    assert OURS.choose(image, OURS.boxes(image, ids)) == [0]
    assert CLIPSELF.choose(image, CLIPSELF.boxes(image, ids)) == []
    thing = image_of(segment(1, (4, 10, 13, 18)))
    assert CLIPSELF.boxes(thing, ids).tolist() == [[4, 10, 13, 18]]


def test_area_limits_count_themselves() -> None:
    image = image_of(*(segment(1, (0, 0, side, side)) for side in (7.9, 8, 1024, 1025)))
    image = replace(image, width=2000, height=2000)
    assert CLIPSELF.choose(image, CLIPSELF.boxes(image, np.zeros((2, 2)))) == [1, 2]


def test_only_things_are_cropped_enlarged() -> None:
    boxes = np.array([[8, 8, 24, 24], [0, 0, 16, 16], [8, 8, 24, 24]], dtype=np.float64)
    image = image_of(
        segment(1, (8, 8, 24, 24)),
        segment(2, (0, 0, 16, 16)),
        segment(3, (8, 8, 24, 24), thing=False),
    )
    # 16 px become 24 about the centre, cut off at the border of the image.
    assert CLIPSELF.cuts(image, boxes).tolist() == [
        [4, 4, 28, 28],
        [0, 0, 20, 20],
        [8, 8, 24, 24],
    ]
    assert OURS.cuts(image, boxes).tolist() == boxes.tolist()


def test_mask_after_its_resize_to_the_tokens() -> None:
    # 8 px a token. Plain bicubic interpolation at the centre 8 i + 3.5 reads pixels 2 to 5 of a
    # token with weights -.09375, .59375, .59375, -.09375, and no other.
    ids = np.zeros((32, 32), dtype=np.int32)
    ids[:, 3], ids[:, 13], ids[:, 16:18], ids[:, 24:] = 1, 2, 3, 4
    masks = resized_masks(ids, [1, 2, 3, 4], (4, 4), (0, 0, 1, 1))
    expected = torch.zeros(4, 4, 4)
    expected[0, :, 0] = expected[3, :, 3] = 1  # the third fills a quarter of a token, unread
    assert torch.equal(masks, expected)
    # A letterbox: 24 rows are 3 rows of tokens; the rest is padding.
    masks = resized_masks(ids[:24], [4], (4, 4), (0, 0, 1, 0.75))
    expected = torch.zeros(1, 4, 4)
    expected[0, :3, 3] = 1
    assert torch.equal(masks, expected)
    assert resized_masks(ids, [], (4, 4), (0, 0, 1, 1)).shape == (0, 4, 4)


def test_rows_of_a_letterbox_round_half_to_even() -> None:
    # 425 of 640 px are 42.5 of 64 tokens: 42 rows, as Python rounds.
    ids = np.ones((425, 640), dtype=np.int32)
    masks = resized_masks(ids, [1], (64, 64), (0, 0, 1, torch.tensor(680 / 1024).item()))
    assert masks[0].any(dim=1).sum() == 42


def test_thin_mask_is_a_region_and_wrong() -> None:
    ids = np.zeros((48, 64), dtype=np.int32)
    ids[:, 40:42] = 1  # between the pixels that are read
    image = image_of(segment(1, (40, 0, 42, 48)))
    labels = label_image(image, ids, (6, 8), (0, 0, 1, 1), CLIPSELF, {0: 0})
    assert labels.rows == [0]
    assert labels.masks.sum() == 0
    ours = label_image(image, ids, (6, 8), (0, 0, 1, 1), OURS, {0: 0})
    assert ours.masks.sum() == pytest.approx(6 * 2 / 8)
    dense_map = torch.ones(3, 6, 8) * torch.tensor([1.0, 0, 0])[:, None, None]
    box = torch.tensor([[0, 40 / 64, 0, 42 / 64, 1]])
    features = RegionFeatures(*pool_image(dense_map, box, labels.masks, CLIPSELF))
    assert features.masks.tolist() == [[0, 0, 0]]
    # The class is that of every token; top-2 of three classes that all tie stays wrong as well.
    scores = score_regions(
        features, [labels.labels], np.array([True] * 3), torch.eye(3), topk=(1, 2)
    )
    assert {k: scores[k].value for k in ('boxes_top1', 'masks_top1', 'masks_top2')} == {
        'boxes_top1': 1,
        'masks_top1': 0,
        'masks_top2': 0,
    }


@pytest.mark.parametrize(('patch', 'clipself', 'ours'), [(16, 1024, 1024), (14, 896, 1022)])
def test_canvas_of_a_tower(patch: int, clipself: int, ours: int) -> None:
    assert CLIPSELF.canvas_side(patch) == clipself  # --det-image-size of the two test scripts
    assert OURS.canvas_side(patch) == ours


def test_canvas_of_other_towers() -> None:
    assert [CLIPSELF.canvas_side(patch) for patch in (8, 32)] == [512, 1024]
    assert region_rules(image_size=448).canvas_side(14) == 448


def test_prompts_take_raw_names() -> None:
    prompt = fill_template('There is {article} {} in the scene.', 'wall-other-merged')
    assert prompt == 'There is a wall-other-merged in the scene.'


def test_published_embeddings_in_the_order_of_category_ids(shared_data: Path) -> None:
    """Of the same prompts, COCO's 80 names and the first 80 of COCO panoptic's 133."""
    folder = shared_data / 'text_embeddings'
    dataset = CocoPanoptic(shared_data / 'coco')
    things = [c for c, t in zip(dataset.classes, dataset.is_thing, strict=True) if t]
    found = class_texts(
        dataset.classes, things, folder / 'openai-vit-b16_coco-panoptic-133.npy', class_names='raw'
    )
    other = torch.from_numpy(np.load(folder / 'openai-vit-b16_coco-80.npy')).float()
    cosine = found.embeddings @ torch.nn.functional.normalize(other, dim=1).T
    assert cosine.diagonal().min() > 0.999
    assert cosine.argmax(dim=1).tolist() == list(range(80))


def test_the_protocol_says_what_was_changed() -> None:
    assert region_rules().describe() == 'clipself'
    assert region_rules('ours').describe('5 classes') == 'ours, with 5 classes'
    changed = region_rules(area_px=[1024, 1024**2], crowds=False, templates=None)
    assert changed.describe() == 'clipself, with crowds off, area 1024 1048576'
    # Sizes that the protocol would have taken are no change.
    given = region_rules(image_size=896, crop_size=224)
    assert given.as_protocol_says(14, 224).describe() == 'clipself'
    assert given.as_protocol_says(16, 336).describe() == (
        'clipself, with image size 896, crop size 224'
    )


@pytest.mark.parametrize(
    'change',
    [
        {'area_px': (5, 5)},
        {'min_area': 1.0},
        {'mask_pooling': 'bicubic'},
        {'class_names': 'long'},
        {'crop_enlarge': (0.5, 1)},
        {'crop_enlarge': (1.5,)},
        {'protocol': 'mine'},
    ],
)
def test_impossible_rules(change: dict) -> None:
    with pytest.raises(ValueError, match='expected'):
        region_rules(**change)
