from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from refineclip.datasets.coco_panoptic import CocoPanoptic
from refineclip.encoders.text.text_head import TextHead
from refineclip.evaluation import CLIPSELF, OURS, PanopticEvaluation, RegionRules
from refineclip.evaluation.encoders.references import ColourEncoder

from .toy_panoptic import PATCH, colour_texts, edit_json, preprocessor, write_coco

COLOUR = ColourEncoder(PATCH, (0.5,) * 3, (0.25,) * 3)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_coco(tmp_path)


def evaluation_of(root: Path, resize: str = 'letterbox', **kwargs: object) -> PanopticEvaluation:
    return PanopticEvaluation(CocoPanoptic(root), preprocessor(resize), PATCH, **kwargs)


@pytest.mark.parametrize('resize', ['letterbox', 'squash'])
def test_masks_follow_the_picture_on_the_canvas(root: Path, resize: str) -> None:
    evaluation = evaluation_of(root, resize, rules=OURS)
    features = evaluation.region_features({'colour': COLOUR}, crops=False)['colour']
    labels = torch.cat([one.labels for one in evaluation.labels()])
    expected = colour_texts()[labels]
    if resize == 'letterbox':
        # Objects are aligned to tokens: each mask sees its own colour and nothing else.
        torch.testing.assert_close(features.masks, expected, atol=1e-4, rtol=0)
    scores = evaluation.score_regions(features, colour_texts())
    assert scores['masks_top1'].value == 1
    assert scores['masks_class_top1'].value == scores['masks_things_class_top1'].value == 1
    # The boxes of sky and grass hold the objects too.
    stuff = labels >= 2
    assert ((features.boxes - features.masks).abs().amax(dim=1)[stuff] > 0.05).all()


def test_the_wrong_rectangle_would_be_seen(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Negative control of the test above: labels that take a letterbox for a squash.
    from refineclip.evaluation import panoptic_evaluation

    right = panoptic_evaluation.label_image

    def wrong(image, ids, grid, picture, *rest):  # type: ignore[no-untyped-def]
        return right(image, ids, grid, (0.0, 0.0, 1.0, 1.0), *rest)

    monkeypatch.setattr(panoptic_evaluation, 'label_image', wrong)
    evaluation = evaluation_of(root, rules=OURS)
    features = evaluation.region_features({'colour': COLOUR}, crops=False)['colour']
    labels = torch.cat([one.labels for one in evaluation.labels()])
    assert (features.masks - colour_texts()[labels]).abs().max() > 0.3


def test_padding_belongs_to_no_class(root: Path) -> None:
    evaluation = evaluation_of(root)
    landscape, portrait = (one.segments.reshape(8, 8) for one in evaluation.labels()[:2])
    assert (landscape[6:] == 0).all()
    assert (landscape[:6] > 0).all()
    assert (portrait[:, 6:] == 0).all()
    assert (portrait[:, :6] > 0).all()


def test_canvas_of_the_picture_only(root: Path) -> None:
    tight = PanopticEvaluation(CocoPanoptic(root), preprocessor(pad_size_divisor=PATCH), PATCH)
    assert [tuple(m.shape) for m in tight.maps(COLOUR)[:3]] == [
        (1, 4, 6, 8),
        (1, 4, 8, 6),
        (1, 4, 8, 8),
    ]
    features = tight.region_features({'colour': COLOUR}, crops=False)['colour']
    assert tight.score_regions(features, colour_texts())['masks_top1'].value == 1


def test_maps_and_streams_agree(root: Path) -> None:
    evaluation = evaluation_of(root)
    streamed = evaluation.score_regions(
        evaluation.region_features({'colour': COLOUR})['colour'], colour_texts()
    )
    from_maps = evaluation.region_scores(evaluation.maps(COLOUR), colour_texts())
    assert set(from_maps) == {key for key in streamed if not key.startswith('crops')}
    for key, score in from_maps.items():
        np.testing.assert_array_equal(score.numerator, streamed[key].numerator)
    assert streamed['crops_things_top1'].value == 1  # close-ups of things show their colour


def test_colours_separate_the_toy_segments(root: Path) -> None:
    evaluation = evaluation_of(root)
    scores = evaluation.spatial_scores(evaluation.maps(COLOUR), ('auc', 'imk', 'gk', 'knn'))
    assert {key: score.value for key, score in scores.items()} == pytest.approx(
        {'auc': 1, 'imk': 1, 'gk': 1, 'knn': 1}
    )


def test_images_are_read_again_when_they_do_not_fit(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = evaluation_of(root).region_features({'colour': COLOUR})['colour']
    monkeypatch.setattr('refineclip.evaluation.panoptic_evaluation.KEPT_BYTES', 0)
    evaluation = evaluation_of(root)
    again = evaluation.region_features({'colour': COLOUR})['colour']
    assert not evaluation._items
    torch.testing.assert_close(again.masks, kept.masks, atol=0, rtol=0)
    assert evaluation.score_regions(again, colour_texts())['masks_top1'].value == 1


def test_vocabulary(root: Path) -> None:
    evaluation = evaluation_of(root, classes=['car', 'person'])
    assert evaluation.is_thing.tolist() == [True, True]
    scores = evaluation.region_scores(evaluation.maps(COLOUR), colour_texts()[[1, 0]])
    assert scores['masks_top1'].denominator.sum() == 2 * len(evaluation.dataset)
    assert scores['masks_top1'].value == 1
    assert np.isnan(scores['masks_stuff_class_top1'].value)
    with pytest.raises(ValueError, match=r"none of the data set's classes.*'zebra'.*person, car"):
        evaluation_of(root, classes=['zebra'])
    with pytest.raises(ValueError, match='repeats'):
        evaluation_of(root, classes=['car', 'car'])


def test_area_limits(root: Path) -> None:
    rules = RegionRules(area_px=(1000, 1600))
    chosen = [len(one.labels) for one in evaluation_of(root, rules=rules).labels()]
    areas = [
        [(s.box[2] - s.box[0]) * (s.box[3] - s.box[1]) for s in i.segments]
        for i in CocoPanoptic(root)
    ]
    assert chosen == [sum(1000 <= area <= 1600 for area in row) for row in areas]
    assert 0 < sum(chosen) < 16
    nothing = evaluation_of(root, rules=RegionRules(area_px=(1e6, 2e6)))
    with pytest.raises(ValueError, match='segments that count as regions, got none in 4 images'):
        nothing.region_features({'colour': COLOUR})
    with pytest.raises(ValueError, match='segments that count as regions'):
        nothing.region_scores(nothing.maps(COLOUR), colour_texts())


def test_crops_follow_the_rules(root: Path) -> None:
    plain = evaluation_of(root, rules=replace(CLIPSELF, crop_enlarge=(1, 1)))
    same, enlarged = plain.item(0, crops=True), evaluation_of(root).item(0, crops=True)
    assert enlarged.labels.labels.tolist() == [3, 2, 0, 1]  # sky, grass, person, car
    differ = [not torch.equal(a, b) for a, b in zip(same.crops, enlarged.crops, strict=True)]
    assert differ == [False, False, True, True]
    with pytest.raises(ValueError, match=r'rules\.crop_enlarge, got crop_enlarge=1\.5'):
        PanopticEvaluation(CocoPanoptic(root), preprocessor(crop_enlarge=1.5), PATCH)


def test_text_head_reads_raw_tokens(root: Path) -> None:
    head = TextHead(torch.zeros(4), torch.ones(4), torch.eye(4), torch.zeros(4))
    evaluation = evaluation_of(root)
    with pytest.raises(ValueError, match='normalize_tokens=False beside a text head'):
        evaluation.region_scores(evaluation.maps(COLOUR), colour_texts(), head)


class BrokenEncoder(nn.Module):
    """NaN in one token of the second image."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def dense(self, images: Tensor) -> Tensor:
        self.calls += 1
        maps = COLOUR.dense(images)
        if self.calls == 2:
            maps[0, 0, 0, 0] = float('nan')
        return maps


def test_features_that_are_not_finite(root: Path) -> None:
    for method in ('maps_of', 'region_features'):
        extra = {'crops': False} if method == 'region_features' else {}
        with pytest.raises(ValueError, match=r"NaN or infinity from 'bad' for .*001\.png"):
            getattr(evaluation_of(root), method)({'bad': BrokenEncoder()}, **extra)
    evaluation = evaluation_of(root)
    maps = evaluation.maps(COLOUR)
    maps[0] = maps[0] / 0
    with pytest.raises(ValueError, match='NaN or infinity'):
        evaluation.spatial_scores(maps)


def test_another_patch_size(root: Path) -> None:
    with pytest.raises(ValueError, match=r'\(8, 8\) tokens, got \(4, 4\)'):
        evaluation_of(root).maps(ColourEncoder(16, (0.5,) * 3, (0.25,) * 3))
    with pytest.raises(ValueError, match='multiple of the patch 7'):
        PanopticEvaluation(CocoPanoptic(root), preprocessor(), 7)


def test_texts_of_another_width(root: Path) -> None:
    evaluation = evaluation_of(root)
    with pytest.raises(ValueError, match=r'shape \(4, 4\).*got \(4, 7\)'):
        evaluation.region_scores(evaluation.maps(COLOUR), torch.ones(4, 7))


def test_missing_files_are_named_before_work(root: Path) -> None:
    (root / 'annotations/panoptic_val2017/002.png').unlink()
    with pytest.raises(FileNotFoundError, match=r'4 label maps.*1 missing \(first: .*002\.png'):
        evaluation_of(root)
    (root / 'val2017/001.png').unlink()
    with pytest.raises(FileNotFoundError, match='4 photos'):
        evaluation_of(root)


def test_segment_without_a_pixel(root: Path, caplog: pytest.LogCaptureFixture) -> None:
    content, write = edit_json(root)
    ghost = {'id': 77, 'category_id': 3, 'iscrowd': 0, 'bbox': [0, 0, 32, 32], 'area': 0}
    content['annotations'][1]['segments_info'].append(ghost)
    flat = {'id': 78, 'category_id': 3, 'iscrowd': 0, 'bbox': [4, 4, 0, 0], 'area': 0}
    content['annotations'][1]['segments_info'].insert(0, flat)
    write()
    evaluation = evaluation_of(root)
    said: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            'refineclip.evaluation.regions.panoptic_regions.print_log',
            lambda text, logger, level: said.append(f'{logging.getLevelName(level)} {text}'),
        )
        scores = evaluation.region_scores(evaluation.maps(COLOUR), colour_texts())
        evaluation.maps(COLOUR)  # said once only
    assert scores['masks_top1'].denominator.tolist() == [4, 4, 4, 4]
    assert scores['masks_top1'].value == 1
    assert len(said) == 1
    assert said[0].startswith('WARNING 2 segments of the json have no pixel')
    assert '001.png' in said[0]


def test_crowds_are_regions_by_one_protocol(root: Path) -> None:
    content, write = edit_json(root)
    content['annotations'][0]['segments_info'][3]['iscrowd'] = 1
    write()
    counts = {
        rules.protocol: [len(one.labels) for one in evaluation_of(root, rules=rules).labels()]
        for rules in (CLIPSELF, OURS)
    }
    assert counts == {'clipself': [4, 4, 4, 4], 'ours': [3, 4, 4, 4]}


def test_one_image_only(tmp_path: Path) -> None:
    evaluation = evaluation_of(write_coco(tmp_path, num_images=1))
    maps = evaluation.maps(COLOUR)
    assert evaluation.spatial_scores(maps, ('auc', 'imk'))['auc'].value == 1
    with pytest.raises(ValueError, match='knn: expected labelled tokens in 2 or more images'):
        evaluation.spatial_scores(maps, ('knn',))
    with pytest.raises(ValueError, match='ridge: expected labelled tokens in 2 or more images'):
        evaluation.spatial_scores(maps, ('ridge',))


def test_no_labelled_token(root: Path) -> None:
    content, write = edit_json(root)
    for annotation in content['annotations']:
        annotation['segments_info'] = []
    write()
    evaluation = evaluation_of(root)
    maps = evaluation.maps(COLOUR)
    with pytest.raises(ValueError, match='gk: expected labelled tokens in 1 or more images'):
        evaluation.spatial_scores(maps, ('gk',))
    with pytest.raises(ValueError, match='got none in 4 images'):
        evaluation.region_features({'colour': COLOUR})


def test_unknown_measure(root: Path) -> None:
    evaluation = evaluation_of(root)
    with pytest.raises(ValueError, match=r"measures: expected some of .*got \('miou',\)"):
        evaluation.spatial_scores(evaluation.maps(COLOUR), ('miou',))
