"""TextSegmentor against scores worked out by hand, mmseg's own windows, and wrong input."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.structures import PixelData

pytest.importorskip('mmseg.models')

from mmengine.config import ConfigDict
from mmengine.registry import MODELS, DefaultScope
from mmseg.models.segmentors import EncoderDecoder
from mmseg.structures import SegDataSample

from benchmarks.forks import in_new_process, peak_growth
from refineclip.encoders import RefinerCLIP
from refineclip.encoders.text.queries import make_queries
from refineclip.segmentation import TextSegmentor, build_text_segmentor, segment_image
from refineclip.segmentation.sliding_windows import fold_windows, window_boxes

from ..toy_text import CLIP, DIM, ColourTower, colour_segmentor, write_image

pytestmark = pytest.mark.mm


def picture(*colours: tuple[float, float, float], height: int = 16) -> torch.Tensor:
    """Image (1, 3, H, 16 * n) of squares of the colours."""
    return torch.tensor(colours).T[None, :, None].repeat_interleave(16, 3).repeat(1, 1, height, 1)


RED, GREEN, BLUE = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)


def labels_of(model: TextSegmentor, image: torch.Tensor) -> torch.Tensor:
    return model.predict(image)[0].pred_sem_seg.data[0]


def test_each_pixel_gets_its_text() -> None:
    model = colour_segmentor(['r', 'g', 'b'])
    found = labels_of(model, picture(BLUE, RED, GREEN))
    assert found.shape == (16, 48)
    assert found[8, [4, 24, 44]].tolist() == [2, 0, 1]


def test_weights_are_named_in_the_backbone() -> None:
    with pytest.raises(ValueError, match=r'pretrained: expected None, got .openai.'):
        TextSegmentor(torch.nn.Identity(), {'text_embeddings': torch.eye(2)}, pretrained='openai')


def test_vocabulary_is_exchanged() -> None:
    model = colour_segmentor(['r', 'g', 'b'])
    model.text_cfg['text_embeddings'] = torch.tensor([GREEN, RED])
    model.set_vocabulary(['g', 'r'])
    assert labels_of(model, picture(RED, GREEN))[8, [4, 28]].tolist() == [1, 0]
    assert model.names == ('g', 'r')


def test_best_synonym_decides() -> None:
    # 'max': the green half of 'r;g' wins on green, where the mean of both (.71) loses to .8.
    texts = [RED, GREEN, (0.0, 0.8, 0.6)]
    model = colour_segmentor(['r;g', 'x'], texts)
    assert labels_of(model, picture(GREEN)).unique().tolist() == [0]
    mean = colour_segmentor(['r;g', 'x'], [(1.0, 1.0, 0.0), texts[2]], synonyms='mean')
    assert labels_of(mean, picture(GREEN)).unique().tolist() == [1]


def test_unlikely_pixels_are_background() -> None:
    # Cosines of (1, 1, 0): .71, .71, 0; of red: 1, 0, 0. With scale 10 the best has probability
    # 1 / (2 + e^-7.1) = .4998 and 1 / (1 + 2 e^-10) = .9999.
    names = ['r', 'g', 'b', 'background']
    image = picture(RED, (1.0, 1.0, 0.0))
    both = [colour_segmentor(names, prob_thd=p, logit_scale=10.0) for p in (0.4, 0.6)]
    assert [labels_of(model, image)[8, 30].item() for model in both] == [0, 3]
    assert [labels_of(model, image)[8, 2].item() for model in both] == [0, 0]


@pytest.mark.parametrize(
    ('texts', 'area_thd', 'at_green'),
    [
        # Background .6 at green, red 0, green 1.
        ([(0.8, 0.6, 0.0), RED, GREEN], 0.0, 2),
        ([(0.8, 0.6, 0.0), RED, GREEN], 0.09, 2),  # green covers a tenth of what is no background
        ([(0.8, 0.6, 0.0), RED, GREEN], 0.1, 0),  # which is not more than a tenth
        # Without green its pixels are the next best class, not background at once.
        ([BLUE, (0.8, 0.6, 0.0), GREEN], 0.1, 1),
    ],
)
def test_small_classes_are_not_in_the_image(texts: list, area_thd: float, at_green: int) -> None:
    kwargs = dict(background_names=['k'], area_thd=area_thd)
    model = colour_segmentor(['background', 'r', 'g'], texts, **kwargs)
    found = model.predict(picture(*[RED] * 9, GREEN))[0]
    assert found.pred_sem_seg.data[0, 8, [4, 152]].tolist() == [1, at_green]
    assert 'seg_logits' not in found


def test_area_rule_needs_a_background_class() -> None:
    model = colour_segmentor(['r', 'g', 'b'], area_thd=0.5)
    assert labels_of(model, picture(*[RED] * 9, GREEN))[8, 152] == 1


@pytest.mark.parametrize('chunk_size', [2, 64])
def test_area_rule_is_that_of_sclip(chunk_size: int) -> None:
    """Written out from its released clip_segmentor.py: on probabilities, background first."""
    names = ['background', *'abcdefg']
    kwargs = dict(background_names=['u', 'v'], prob_thd=0.12, logit_scale=7.0, area_thd=0.1)
    model = colour_segmentor(names, torch.randn(9, 3).tolist(), chunk_size=chunk_size, **kwargs)
    image = torch.randn(1, 3, 6, 8).repeat_interleave(8, 2).repeat_interleave(8, 3)
    cosine = torch.nn.functional.interpolate(model._forward(image), (48, 64), mode='bilinear')[0]
    probability = (7 * cosine).softmax(0)
    owner = torch.tensor(model.queries.owner)
    scores = torch.stack([probability[owner == c].amax(0) for c in range(8)])
    areas = torch.bincount(scores.argmax(0).flatten(), minlength=8)[1:]
    large = areas > 0.1 * areas.sum()
    assert 0 < large.sum() < 7
    scores[1:] *= large[:, None, None]
    expected = scores.argmax(0).masked_fill(scores.amax(0) < 0.12, 0)
    assert torch.equal(labels_of(model, image), expected)
    assert len(expected.unique()) > 2


@pytest.mark.parametrize('chunk_size', [1, 64])
def test_first_of_equal_texts_wins(chunk_size: int) -> None:
    """As argmax over all texts does; the classes of a data set may have equal names."""
    model = colour_segmentor(None, [RED, GREEN, RED, GREEN], chunk_size=chunk_size)
    model.set_vocabulary(['r', 'g', 'r', 'g'], distinct=False)
    assert labels_of(model, picture(GREEN, RED))[8, [4, 28]].tolist() == [1, 0]
    with pytest.raises(ValueError, match=r'at positions \[\[0, 2\], \[1, 3\]\]'):
        model.set_vocabulary(['r', 'g', 'r', 'g'])


def test_threshold_needs_a_background_class() -> None:
    model = colour_segmentor(['r', 'g', 'b'], prob_thd=0.9, logit_scale=1.0)
    assert labels_of(model, picture(RED)).unique().tolist() == [0]


def test_background_names_stand_for_the_background() -> None:
    model = colour_segmentor(['background', 'r'], [GREEN, BLUE, RED], background_names=['g', 'b'])
    assert model.queries.texts == ('g', 'b', 'r')
    assert labels_of(model, picture(GREEN, RED, BLUE))[8, [4, 24, 44]].tolist() == [0, 1, 0]


@pytest.mark.parametrize(
    ('names', 'kwargs', 'texts', 'owner'),
    [
        (['a', 'b;c'], {}, ('a', 'b', 'c'), (0, 1, 1)),
        (['a', 'b;c'], dict(synonyms='mean'), ('a', 'b;c'), (0, 1)),
        (['background', 'a'], {}, ('background', 'a'), (0, 1)),
        (['background', 'a'], dict(threshold=True), ('a',), (1,)),
        (['background;x', 'a'], dict(background_names=('a', 'y')), ('x', 'y', 'a'), (0, 0, 1)),
    ],
)
def test_texts_of_a_vocabulary(names, kwargs, texts, owner) -> None:
    queries = make_queries(names, **kwargs)
    assert (queries.texts, queries.owner) == (texts, owner)
    assert queries.num_classes == len(names)


@pytest.mark.parametrize('chunk_size', [1, 2, 7, 64])
def test_chunks_change_nothing(chunk_size: int) -> None:
    names = ['background', *'abcdefghijk']
    texts = torch.randn(13, 3).tolist()
    image = torch.randn(1, 3, 7, 9).repeat_interleave(8, 2).repeat_interleave(8, 3)[..., 3:]
    kwargs = dict(background_names=['u', 'v'], prob_thd=0.2, keep_logits=True)
    kwargs['test_cfg'] = dict(mode='slide', crop_size=(24, 32), stride=(11, 16))
    ours = colour_segmentor(names, texts, chunk_size=chunk_size, **kwargs).predict(image)[0]
    whole = colour_segmentor(names, texts, chunk_size=10**6, **kwargs).predict(image)[0]
    assert torch.equal(ours.pred_sem_seg.data, whole.pred_sem_seg.data)
    torch.testing.assert_close(ours.seg_logits.data, whole.seg_logits.data)
    assert len(whole.pred_sem_seg.data.unique()) > 3


def test_all_texts_at_once_say_the_same() -> None:
    """The running maximum and denominator against argmax and softmax over all."""
    model = colour_segmentor(['background', 'a', 'b'], torch.randn(4, 3).tolist(), chunk_size=1)
    model.background_names, model.prob_thd = ('u', 'v'), 0.3
    model.text_cfg['text_embeddings'] = torch.randn(4, 3)
    model.set_vocabulary(['background', 'a', 'b'])
    image = torch.randn(3, 5, 7).repeat_interleave(8, 1).repeat_interleave(8, 2)
    cosine = model._forward(image[None])[0]
    pixels = torch.nn.functional.interpolate(cosine[None], (40, 56), mode='bilinear')[0]
    best, index = (40 * pixels).softmax(0).max(0)
    expected = torch.tensor(model.queries.owner)[index].masked_fill(best < 0.3, 0)
    assert torch.equal(labels_of(model, image[None]), expected)


@pytest.mark.parametrize('size', [(40, 64), (65, 47), (24, 24), (17, 90)])
def test_windows_are_those_of_mmseg(size: tuple[int, int]) -> None:
    image = torch.rand(1, 2, *size)

    class Host:
        out_channels = 2
        test_cfg = ConfigDict(crop_size=(24, 32), stride=(10, 13))
        seen: list = []  # noqa: RUF012

        def encode_decode(self, crop: torch.Tensor, metas: list) -> torch.Tensor:
            self.seen.append(tuple(crop.shape[2:]))
            return crop * crop.mean()

    expected = EncoderDecoder.slide_inference(Host(), image, [{}])[0]
    boxes = window_boxes(size, (24, 32), (10, 13))
    crops = [image[0, :, t:b, left:r] for t, left, b, r in boxes]
    ours = fold_windows(
        torch.stack([crop * crop.mean() for crop in crops]), boxes, size, crops[0].shape[1:]
    )
    assert Host.seen == [tuple(crop.shape[1:]) for crop in crops]
    torch.testing.assert_close(ours, expected)


def test_size_that_is_no_multiple_of_the_patch() -> None:
    model = colour_segmentor(['r', 'g', 'b'])
    found = labels_of(model, picture(RED, BLUE, height=13)[..., :27])
    assert found.shape == (13, 27)
    assert found[:, [2, 26]].unique(dim=0).tolist() == [[0, 2]]


def test_predictions_have_the_original_size_and_no_padding() -> None:
    model = colour_segmentor(['r', 'g', 'b'], keep_logits=True)
    padded = torch.cat([picture(RED, GREEN), picture(BLUE)], dim=3)
    meta = dict(ori_shape=(33, 65), img_padding_size=(0, 16, 0, 0))
    sample = SegDataSample(metainfo=meta)
    [found] = model.predict(padded, [sample])
    assert found.pred_sem_seg.data.shape == (1, 33, 65)
    assert found.pred_sem_seg.data.unique().tolist() == [0, 1]
    assert isinstance(found.seg_logits, PixelData)
    assert found.seg_logits.data.shape == (3, 33, 65)


def test_class_order_does_not_matter() -> None:
    texts = torch.randn(6, 3)
    order = torch.randperm(6)
    image = torch.randn(1, 3, 4, 4).repeat_interleave(8, 2).repeat_interleave(8, 3)
    first = labels_of(colour_segmentor(list('abcdef'), texts.tolist(), chunk_size=2), image)
    names = ['abcdef'[i] for i in order]
    second = labels_of(colour_segmentor(names, texts[order].tolist(), chunk_size=2), image)
    assert torch.equal(first, order[second])


def test_real_tower_and_a_refined_checkpoint(tmp_path: Path) -> None:
    write_image(tmp_path / 'a.png', (90, 70))
    kwargs = dict(templates=['a {}'], test_cfg=dict(mode='slide', crop_size=64, stride=32))
    plain = build_text_segmentor(**CLIP, vocabulary=['star', 'moon'], **kwargs)
    pipeline = [
        dict(type='LoadImageFromFile'),
        dict(type='LoadAnnotations'),
        dict(type='PackSegInputs'),
    ]
    found = segment_image(plain, tmp_path / 'a.png', pipeline)
    assert found.shape == (70, 90)
    state = {k: v + 0.05 * torch.randn_like(v) for k, v in plain.backbone.state_dict().items()}
    torch.save({'state_dict': state}, tmp_path / 'refined.pth')
    refined = build_text_segmentor(
        **CLIP, vocabulary=['star', 'moon'], checkpoint=tmp_path / 'refined.pth', **kwargs
    )
    assert all(torch.equal(refined.backbone.state_dict()[key], state[key]) for key in state)
    # What `mim test CONFIG refined.pth` does.
    from mmengine.runner import load_checkpoint

    load_checkpoint(plain, str(tmp_path / 'refined.pth'))
    torch.testing.assert_close(plain.backbone.state_dict(), state)
    for bad in ({}, {'visual.other': torch.ones(1)}):
        torch.save({'state_dict': bad}, tmp_path / 'bad.pth')
        with pytest.raises(ValueError, match='expected a checkpoint'):
            load_checkpoint(plain, str(tmp_path / 'bad.pth'))
    staged = {f'student.{k}': v for k, v in state.items()} | {'teacher.visual.x': torch.ones(1)}
    torch.save({'state_dict': staged}, tmp_path / 'stage2.pth')
    load_checkpoint(refined, str(tmp_path / 'stage2.pth'))
    # A Refiner that the model has no place for must not be left out without a word.
    staged = {f'encoder.{k}': v for k, v in state.items()} | {'encoder.refiner.x': torch.ones(1)}
    torch.save({'state_dict': staged}, tmp_path / 'stage1.pth')
    with pytest.raises(ValueError, match=r'has besides \[.refiner\.x.\]; set model.backbone'):
        load_checkpoint(refined, str(tmp_path / 'stage1.pth'))


def test_init_cfg_is_loaded_without_training(tmp_path: Path) -> None:
    state = {key: value + 1 for key, value in RefinerCLIP(**CLIP).state_dict().items()}
    torch.save({'state_dict': state}, tmp_path / 'refined.pth')
    backbone = dict(type='RefinerCLIP', **CLIP)
    backbone['init_cfg'] = dict(type='Pretrained', checkpoint=str(tmp_path / 'refined.pth'))
    model = TextSegmentor(backbone, dict(**CLIP))
    torch.testing.assert_close(dict(model.backbone.state_dict()), state)


def test_config_line_and_normalisation() -> None:
    with DefaultScope.overwrite_default_scope('mmseg'):
        model = MODELS.build(
            dict(
                type='TextSegmentor',
                backbone=dict(type='RefinerCLIP', **CLIP, dense_mode='self-self'),
                text=dict(text_embeddings=torch.randn(2, DIM)),
                vocabulary=['a', 'b'],
            )
        )
    assert isinstance(model.backbone, RefinerCLIP)
    image = torch.full((3, 64, 64), 128, dtype=torch.uint8)
    image[0] = 255  # blue, as images of mmcv are BGR
    data = model.data_preprocessor(dict(inputs=[image], data_samples=[SegDataSample()]))
    blue = (1 - model.backbone.image_mean[2]) / model.backbone.image_std[2]
    assert data['inputs'][0, 2].mean().item() == pytest.approx(blue, abs=1e-4)
    assert model.predict(**data)[0].pred_sem_seg.data.shape == (1, 64, 64)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (dict(vocabulary=[]), 'one class name or more'),
        (dict(vocabulary=['a', ' ']), 'empty ones at positions'),
        (dict(vocabulary=['a', 'a;b']), 'more than once'),
        (dict(vocabulary=['background'], prob_thd=0.1), 'beside the background'),
        (dict(synonyms='sum'), "'max' or 'mean'"),
        (dict(prob_thd=1.5), r'prob_thd: expected a number in \[0, 1\)'),
        (dict(area_thd=-0.1), r'area_thd: expected a number in \[0, 1\)'),
        (dict(logit_scale=0), 'logit_scale: expected a positive'),
        (dict(chunk_size=0), '1 or more'),
        (dict(test_cfg=dict(mode='slide', crop_size=8)), 'test_cfg: expected'),
        (dict(test_cfg=dict(mode='slide', crop_size=8, stride=9)), 'stride up to'),
        (dict(text=dict(names=['a'], text_embeddings=torch.eye(3))), 'names are the vocabulary'),
    ],
)
def test_wrong_input(change: dict, message: str) -> None:
    kwargs = dict(vocabulary=['a', 'b'], text=dict(text_embeddings=torch.eye(3))) | change
    with pytest.raises(ValueError, match=message):
        TextSegmentor(ColourTower(), **kwargs)


def test_without_vocabulary_and_training() -> None:
    model = TextSegmentor(ColourTower(), dict(text_embeddings=torch.eye(3)))
    with pytest.raises(ValueError, match='expected a vocabulary, got none'):
        model.predict(torch.rand(1, 3, 16, 16))
    with pytest.raises(ValueError, match='one row for each of 2 names'):
        model.set_vocabulary(['a', 'b'])
    with pytest.raises(NotImplementedError, match='nothing to train'):
        model(torch.rand(1, 3, 16, 16), [], mode='loss')
    with pytest.raises(ValueError, match='without flip'):
        model.predict(torch.rand(1, 3, 16, 16), [SegDataSample(metainfo=dict(flip=True))])
    assert np.isfinite(model.logit_scale)


def large_photo_of_847_classes() -> tuple[float, tuple[int, ...], int]:
    """Peak growth in MiB, shape of the labels, and how many classes were predicted."""
    torch.set_num_threads(1)
    model = TextSegmentor(
        dict(type='RefinerCLIP', model='ViT-B-16'),
        dict(text_embeddings=torch.randn(847, 512)),
        [f'class {index}' for index in range(847)],
    ).eval()
    sample = SegDataSample(metainfo=dict(ori_shape=(1500, 2000)))
    image = torch.randn(1, 3, 336, 448)
    found: list[SegDataSample] = []
    peak = peak_growth(lambda: found.extend(model.predict(image, [sample])))
    labels = found[0].pred_sem_seg.data
    return peak, tuple(labels.shape), len(labels.unique())


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != 'linux', reason='peak memory is read from /proc')
def test_847_classes_at_real_size_fit_into_memory() -> None:
    """All scores at once would be 847 x 1500 x 2000 x 4 B = 9.5 GiB."""
    peak, shape, num_predicted = in_new_process(large_photo_of_847_classes)
    assert peak < 1.5 * 1024
    assert shape == (1, 1500, 2000)
    assert num_predicted > 1


def test_the_default_scope_of_others_is_neither_minded_nor_changed(tmp_path: Path) -> None:
    write_image(tmp_path / 'a.png')
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = build_text_segmentor(**CLIP, vocabulary=['dax', 'wug'], templates=['a {}'])
        expected = segment_image(model, tmp_path / 'a.png')
        assert DefaultScope.get_current_instance().scope_name == 'mmdet'
    assert np.array_equal(segment_image(model, tmp_path / 'a.png'), expected)
    assert DefaultScope.get_current_instance() is None
