"""Windows and chunks of texts change nothing, and fit into memory."""

from __future__ import annotations

import sys

import pytest
import torch

pytest.importorskip('mmseg.models')

from mmengine.config import ConfigDict
from mmseg.models.segmentors import EncoderDecoder
from mmseg.structures import SegDataSample

from benchmarks.forks import in_new_process, peak_growth
from refineclip.segmentation import TextSegmentor
from refineclip.segmentation.sliding_windows import fold_windows, window_boxes

from ..toy_text import (
    BLUE,
    RED,
    colour_segmentor,
    labels_of,
    picture,
)

pytestmark = pytest.mark.mm


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
