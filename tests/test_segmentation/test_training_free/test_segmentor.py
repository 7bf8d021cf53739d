"""TextSegmentor: labels by hand, vocabularies, a real tower, checkpoints, and wrong input."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.structures import PixelData

pytest.importorskip('mmseg.models')

from mmengine.registry import MODELS, DefaultScope
from mmseg.structures import SegDataSample

from refineclip.encoders import RefinerCLIP
from refineclip.segmentation import TextSegmentor, build_text_segmentor, segment_image

from ..toy_text import (
    BLUE,
    CLIP,
    DIM,
    GREEN,
    RED,
    ColourTower,
    colour_segmentor,
    labels_of,
    picture,
    write_image,
)

pytestmark = pytest.mark.mm


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


def test_the_default_scope_of_others_is_neither_minded_nor_changed(tmp_path: Path) -> None:
    write_image(tmp_path / 'a.png')
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = build_text_segmentor(**CLIP, vocabulary=['fish', 'boat'], templates=['a {}'])
        expected = segment_image(model, tmp_path / 'a.png')
        assert DefaultScope.get_current_instance().scope_name == 'mmdet'
    assert np.array_equal(segment_image(model, tmp_path / 'a.png'), expected)
    assert DefaultScope.get_current_instance() is None
