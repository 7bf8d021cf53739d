"""The stand-in against mmcv's compiled extension, function by function, with the same arguments."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
import torch
from torch import Tensor

from refineclip.mmcv_ops import extension, has_compiled_ops

pytestmark = pytest.mark.skipif(
    not has_compiled_ops(), reason='needs mmcv with compiled operators: make test OPS=compiled'
)

MAPS = (2, 4, 9, 11)
ROIS = torch.tensor(
    [
        [0, 0, 0, 36, 44],
        [1, 2.3, 1.1, 30.2, 25],
        [0, 5, 5, 5, 5],  # empty
        [1, -9, -9, 70, 60],  # beyond the map
        [1, 33, 41, 35, 43.5],
    ]
)
TAPS = 9


def both(name: str, *args: Any, fill: dict[str, tuple[int, ...]], **kwargs: Any) -> list[Any]:
    """What compiled and stand-in function fill into zeroed outputs of these shapes, and return."""
    results = []
    for module in (importlib.import_module('mmcv._ext'), extension):
        outputs = {key: torch.zeros(shape) for key, shape in fill.items()}
        returned = getattr(module, name)(*args, **outputs, **kwargs)
        results.append((*outputs.values(), returned))
    return results


def assert_close(name: str, *args: Any, tolerance: float, **kwargs: Any) -> None:
    compiled, ours = both(name, *args, **kwargs)
    for expected, got in zip(compiled[:-1], ours[:-1], strict=True):
        assert expected.abs().max() > 0
        torch.testing.assert_close(got, expected, rtol=0, atol=tolerance)


def boxes_with_ties(number: int) -> tuple[Tensor, Tensor]:
    """Whole-pixel boxes, some of them empty, and scores of eleven values."""
    corners = (torch.rand(number, 2) * 40).round()
    sides = (torch.rand(number, 2) * 12).round()
    return torch.cat([corners, corners + sides], dim=1), (torch.rand(number) * 10).round() / 10


@pytest.mark.parametrize('offset', [0, 1])
@pytest.mark.parametrize('threshold', [0.1, 0.5, 0.6, 0.7])
@pytest.mark.parametrize('number', [0, 1, 10, 400])
def test_nms_keeps_the_same_indices_ties_included(number, threshold, offset):
    boxes, scores = boxes_with_ties(number)
    args = dict(iou_threshold=threshold, offset=offset)
    (expected,), (got,) = both('nms', boxes, scores, fill={}, **args)
    assert torch.equal(got, expected)
    assert got.dtype == torch.int64


def test_nms_at_the_threshold_itself():
    """An overlap of 0.6 in float32 is not above 0.6 in float32, but above 0.6 in float64."""
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 10, 6], [0, 0, 10, 7]])
    scores = torch.tensor([0.9, 0.8, 0.7])
    (expected,), (got,) = both('nms', boxes, scores, fill={}, iou_threshold=0.6, offset=0)
    assert got.tolist() == expected.tolist() == [0, 1]


@pytest.mark.parametrize('offset', [0, 1])
@pytest.mark.parametrize('method', [0, 1, 2])
@pytest.mark.parametrize('number', [0, 1, 200])
def test_softnms_keeps_the_same_boxes_and_scores(number, method, offset):
    boxes, scores = boxes_with_ties(number)
    boxes[:, 2:] += 1  # none is empty: see `ious`
    settings = dict(iou_threshold=0.3, sigma=0.5, min_score=0.05, method=method, offset=offset)
    fill = dict(dets=(number, 5))
    (expected, kept), (got, ours) = both('softnms', boxes, scores, fill=fill, **settings)
    assert torch.equal(ours, kept)
    torch.testing.assert_close(got[: len(ours)], expected[: len(kept)], rtol=0, atol=1e-6)


@pytest.mark.parametrize('aligned', [True, False])
@pytest.mark.parametrize('sampling_ratio', [0, 2])
def test_roi_align(sampling_ratio, aligned):
    size = dict(aligned_height=7, aligned_width=5)
    mode = dict(sampling_ratio=sampling_ratio, pool_mode=1, aligned=aligned)
    settings = dict(argmax_x=torch.zeros(0), argmax_y=torch.zeros(0), spatial_scale=0.25)
    shape = (len(ROIS), MAPS[1], 7, 5)
    everything = settings | size | mode
    forward = dict(input=torch.randn(MAPS), rois=ROIS, fill=dict(output=shape))
    assert_close('roi_align_forward', **forward, **everything, tolerance=1e-5)
    backward = dict(grad_output=torch.randn(shape), rois=ROIS, fill=dict(grad_input=MAPS))
    assert_close('roi_align_backward', **backward, **everything, tolerance=1e-4)


def test_roi_align_of_no_region():
    settings = dict(aligned_height=7, aligned_width=7, spatial_scale=0.25, sampling_ratio=0)
    settings |= dict(argmax_x=torch.zeros(0), argmax_y=torch.zeros(0), pool_mode=1, aligned=True)
    shape = (0, MAPS[1], 7, 7)
    fill = dict(output=shape)
    extension.roi_align_forward(torch.randn(MAPS), ROIS[:0], torch.zeros(shape), **settings)
    compiled, ours = both('roi_align_forward', torch.randn(MAPS), ROIS[:0], fill=fill, **settings)
    assert compiled[0].shape == ours[0].shape == shape
    gradient = torch.ones(MAPS)
    extension.roi_align_backward(torch.zeros(shape), ROIS[:0], grad_input=gradient, **settings)
    assert not gradient.any()


# Stride, padding, dilation, groups of the kernel, groups of the offsets.
CONVOLUTIONS = [(1, 1, 1, 1, 1), (2, 1, 1, 2, 1), (1, 2, 2, 1, 2), (2, 0, 1, 2, 2)]


def displaced(stride, padding, dilation, groups, offset_groups) -> dict[str, Tensor]:
    """Inputs of a 3 x 3 deformable convolution of 4 to 6 channels."""
    height, width = ((n + 2 * padding - 2 * dilation - 1) // stride + 1 for n in MAPS[2:])
    return dict(
        input=torch.randn(MAPS),
        weight=torch.randn(6, MAPS[1] // groups, 3, 3),
        offset=torch.randn(MAPS[0], 2 * TAPS * offset_groups, height, width) * 2,
        mask=torch.rand(MAPS[0], TAPS * offset_groups, height, width),
        bias=torch.randn(6),
        grad_output=torch.randn(MAPS[0], 6, height, width),
    )


def shapes(tensors: dict[str, Tensor], **names: str) -> dict[str, tuple[int, ...]]:
    return {key: tuple(tensors[name].shape) for key, name in names.items()}


@pytest.mark.parametrize('convolution', CONVOLUTIONS)
def test_deform_conv(convolution):
    stride, padding, dilation, groups, offset_groups = convolution
    given = displaced(*convolution)
    settings = dict(kW=3, kH=3, dW=stride, dH=stride, padW=padding, padH=padding)
    settings |= dict(dilationW=dilation, dilationH=dilation, group=groups, im2col_step=2)
    settings |= dict(deformable_group=offset_groups, columns=torch.zeros(0))
    maps = dict(input=given['input'], offset=given['offset'])
    assert_close(
        'deform_conv_forward',
        **maps,
        **settings,
        weight=given['weight'],
        ones=torch.zeros(0),
        fill=shapes(given, output='grad_output'),
        tolerance=1e-5,
    )
    assert_close(
        'deform_conv_backward_input',
        **maps,
        **settings,
        weight=given['weight'],
        gradOutput=given['grad_output'],
        fill=shapes(given, gradInput='input', gradOffset='offset'),
        tolerance=1e-4,
    )
    assert_close(
        'deform_conv_backward_parameters',
        **maps,
        **settings,
        ones=torch.zeros(0),
        gradOutput=given['grad_output'],
        scale=0.5,
        fill=shapes(given, gradWeight='weight'),
        tolerance=1e-4,
    )


@pytest.mark.parametrize('with_bias', [True, False])
@pytest.mark.parametrize('convolution', CONVOLUTIONS)
def test_modulated_deform_conv(convolution, with_bias):
    stride, padding, dilation, groups, offset_groups = convolution
    given = displaced(*convolution)
    settings = dict(kernel_h=3, kernel_w=3, stride_h=stride, stride_w=stride, pad_h=padding)
    settings |= dict(pad_w=padding, dilation_h=dilation, dilation_w=dilation, group=groups)
    settings |= dict(deformable_group=offset_groups, with_bias=with_bias)
    settings |= dict(ones=torch.zeros(0), columns=torch.zeros(0))
    gradient = given.pop('grad_output')
    assert_close(
        'modulated_deform_conv_forward',
        **given,
        **settings,
        fill=dict(output=tuple(gradient.shape)),
        tolerance=1e-5,
    )
    names = ['input', 'weight', 'offset', 'mask', *['bias'] * with_bias]
    unused = {} if with_bias else dict(grad_bias=torch.zeros(6))
    assert_close(
        'modulated_deform_conv_backward',
        **given,
        **settings,
        **unused,
        grad_output=gradient,
        fill=shapes(given, **{f'grad_{name}': name for name in names}),
        tolerance=1e-4,
    )
