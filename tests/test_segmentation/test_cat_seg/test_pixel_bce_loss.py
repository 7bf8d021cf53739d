"""Per-pixel binary cross-entropy without a one-hot target."""

from __future__ import annotations

import math

import pytest
import torch

pytest.importorskip('mmseg.models')

from mmseg.models.losses import CrossEntropyLoss

from refineclip.segmentation.cat_seg.pixel_bce_loss import PixelBCELoss, pixel_bce_loss

pytestmark = pytest.mark.mm


def example() -> tuple[torch.Tensor, torch.Tensor]:
    labels = torch.randint(0, 3, (2, 4, 5))
    labels[0, :2] = 255
    return torch.randn(2, 3, 4, 5, requires_grad=True), labels


@pytest.mark.parametrize('ignored_as_negative', [False, True])
def test_equals_a_naive_loop(ignored_as_negative):
    logits, labels = example()
    total = 0.0
    for b in range(2):
        for y in range(4):
            for x in range(5):
                label = int(labels[b, y, x])
                if label == 255 and not ignored_as_negative:
                    continue
                for c in range(3):
                    p = 1 / (1 + math.exp(-logits[b, c, y, x].item()))
                    total -= math.log(p if c == label else 1 - p)
    loss = pixel_bce_loss(logits, labels, 255, ignored_as_negative)
    assert loss.item() == pytest.approx(total / logits.numel(), rel=1e-5)


def test_equals_mmseg():
    logits, labels = example()
    ours = pixel_bce_loss(logits, labels)
    theirs = CrossEntropyLoss(use_sigmoid=True)(logits, labels, ignore_index=255)
    torch.testing.assert_close(ours, theirs)
    for a, b in zip(*(torch.autograd.grad(x, logits) for x in (ours, theirs)), strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize('ignored_as_negative', [False, True])
def test_gradient_of_ignored_pixels(ignored_as_negative):
    logits, labels = example()
    pixel_bce_loss(logits, labels, 255, ignored_as_negative).backward()
    ignored = (labels == 255)[:, None].expand_as(logits)
    assert logits.grad[~ignored].abs().min() > 0
    if ignored_as_negative:
        assert (logits.grad[ignored] > 0).all()
    else:
        assert (logits.grad[ignored] == 0).all()


def test_all_pixels_ignored_is_zero_not_nan():
    logits, labels = torch.randn(1, 2, 3, 3), torch.full((1, 3, 3), 255)
    assert pixel_bce_loss(logits, labels) == 0


def test_weight_and_name():
    logits, labels = example()
    loss = PixelBCELoss(loss_weight=2.0, loss_name='loss_x')
    torch.testing.assert_close(loss(logits, labels), 2 * pixel_bce_loss(logits, labels))
    assert loss.loss_name == 'loss_x'


def test_label_beyond_the_vocabulary():
    with pytest.raises(ValueError, match=r'labels in \[0, 2\] or 255 .* got \[7\]'):
        pixel_bce_loss(torch.zeros(1, 3, 2, 2), torch.tensor([[[0, 7], [1, 255]]]))


def test_sizes_that_differ():
    with pytest.raises(ValueError, match='image and mask differ in size'):
        pixel_bce_loss(torch.zeros(1, 3, 2, 2), torch.zeros(1, 2, 3, dtype=torch.long))
