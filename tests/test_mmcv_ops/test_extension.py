"""What the stand-in computes where the compiled operators cannot be asked, by hand."""

from __future__ import annotations

import math

import pytest
import torch

from refineclip.mmcv_ops import extension

HALVES = [torch.float16, torch.bfloat16]


@pytest.mark.parametrize('name', ['roi_pool_forward', 'ms_deform_attn_forward', 'no_such_name'])
def test_other_operators_are_there_and_raise_with_the_command(name):
    operator = getattr(extension, name)
    with pytest.raises(NotImplementedError, match=rf'{name} of .*pip install --no-build-isolation'):
        operator(torch.zeros(1), key=1)


def test_no_dunder_is_made_up():
    assert not hasattr(extension, '__path__')


@pytest.mark.parametrize('dtype', HALVES)
def test_half_types_are_pooled_in_float32(dtype):
    maps = torch.arange(64.0).view(1, 1, 8, 8)
    rois = torch.tensor([[0.0, 2, 2, 4, 4]])
    settings = dict(aligned_height=1, aligned_width=1, spatial_scale=1.0, sampling_ratio=1)
    settings |= dict(argmax_x=maps, argmax_y=maps, pool_mode=1, aligned=True)
    output = torch.zeros(1, 1, 1, 1, dtype=dtype)
    extension.roi_align_forward(maps.to(dtype), rois.to(dtype), output, **settings)
    # The middle (3, 3) lies between the pixels whose middles are 2.5 and 3.5.
    assert output.item() == (18 + 19 + 26 + 27) / 4
    gradient = torch.zeros(1, 1, 8, 8, dtype=dtype)
    extension.roi_align_backward(
        torch.ones_like(output), rois.to(dtype), grad_input=gradient, **settings
    )
    assert gradient[0, 0, 2:4, 2:4].tolist() == [[0.25, 0.25], [0.25, 0.25]]
    assert gradient.sum() == 1


def test_largest_sample_is_refused():
    maps = torch.zeros(1, 1, 8, 8)
    rois = torch.tensor([[0.0, 2, 2, 4, 4]])
    with pytest.raises(NotImplementedError, match="expected pool_mode='avg', got 'max'"):
        extension.roi_align_forward(maps, rois, maps, maps, maps, 1, 1, 1.0, 1, 0, True)


@pytest.mark.parametrize('dtype', HALVES)
def test_nms_of_half_types(dtype):
    boxes = torch.tensor([[0.0, 0, 4, 4], [0, 0, 4, 3], [8, 8, 9, 9]], dtype=dtype)
    scores = torch.tensor([0.5, 0.75, 0.25], dtype=dtype)
    assert extension.nms(boxes, scores, 0.7, 0).tolist() == [1, 2]
    assert extension.nms(boxes, scores, 0.8, 0).tolist() == [1, 0, 2]


def test_soft_nms_of_empty_boxes_is_finite():
    boxes, scores = torch.ones(2, 4), torch.tensor([0.5, 0.25])
    dets = torch.zeros(2, 5)
    assert extension.softnms(boxes, scores, dets, 0.5, 0.5, 0.1, 2, 0).tolist() == [0, 1]
    assert dets[:, 4].tolist() == [0.5, 0.25]


def test_focal_loss_by_hand():
    logits, target = torch.zeros(2, 2), torch.tensor([1, 2])  # the second is background
    losses, gradient = torch.zeros(2, 2), torch.zeros(2, 2)
    weight = torch.tensor([3.0, 2.0])
    for weights, factor in ((torch.zeros(0), 1), (weight, 2)):
        rows = slice(None) if factor == 1 else slice(1)  # mmcv has no weight for the background
        extension.sigmoid_focal_loss_forward(
            logits[rows], target[rows], weights, losses[rows], gamma=2.0, alpha=0.25
        )
        # p = 1/2: alpha_t * (1/2)^2 * ln 2
        other, own = 0.75 * 0.25 * math.log(2), 0.25 * 0.25 * math.log(2)
        expected = torch.tensor([[other, own], [other, other]]) * factor
        torch.testing.assert_close(losses[rows], expected[rows])
        extension.sigmoid_focal_loss_backward(
            logits[rows], target[rows], weights, gradient[rows], gamma=2.0, alpha=0.25
        )
        # d/dx of -(1-p)^2 ln p at p = 1/2: (1-p)^2 (2 p ln p - (1 - p)) = -(ln 2 + 1/2) / 4
        slope = (math.log(2) + 0.5) / 4
        expected = torch.tensor([[0.75, -0.25], [0.75, 0.75]]) * slope * factor
        torch.testing.assert_close(gradient[rows], expected[rows])


def test_environment_report_names_the_stand_in():
    assert 'torchvision' in extension.get_compiler_version()
    assert 'torchvision' in extension.get_compiling_cuda_version()
