"""CAT-Seg's aggregator against a written-out one, and its parts against numbers by hand."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

pytest.importorskip('mmseg.models')

from benchmarks import cat_seg_reference as reference
from refineclip.segmentation.cat_seg.class_aggregation import ClassAggregation
from refineclip.segmentation.cat_seg.cost_aggregation import ABSENT_LOGIT, place_classes
from refineclip.segmentation.cat_seg.spatial_aggregation import window_attention, window_edges

from .toys import aggregator, aggregator_inputs, randomize

pytestmark = pytest.mark.mm


@pytest.mark.parametrize('grid', [(4, 4), (2, 2), (4, 8)])
@pytest.mark.parametrize('classes', [1, 3, 6, 9])
@torch.no_grad()
def test_equals_the_written_out_aggregator(classes, grid):
    """One class; padding (pad_len is 6); none; and more classes than pad_len."""
    module, inputs = aggregator(), aggregator_inputs(classes, grid=grid)
    logits, ran = module(*inputs)
    expected = reference.aggregate(module, *inputs)
    assert expected.std() > 0.1
    assert (ran is None) == (classes <= 6)
    torch.testing.assert_close(place_classes(logits, ran, classes), expected, atol=1e-4, rtol=0)


def test_gradients_equal_those_of_the_written_out_aggregator():
    """In training mode, where class attention is pooled."""
    module = aggregator().train()
    gradients = []
    for function in (lambda *x: module(*x)[0], lambda *x: reference.aggregate(module, *x)):
        image, text, guidance = aggregator_inputs(3)
        leaves = [x.requires_grad_() for x in (image, text, *guidance)]
        module.zero_grad()
        function(image, text, guidance).square().mean().backward()
        parameters = {name: p.grad.clone() for name, p in module.named_parameters()}
        gradients.append({**parameters, **{str(i): x.grad for i, x in enumerate(leaves)}})
    ours, theirs = gradients
    assert ours.keys() == theirs.keys()
    for name, gradient in theirs.items():
        assert gradient.abs().max() > 0, name
        scale = gradient.abs().max().item()
        torch.testing.assert_close(ours[name], gradient, atol=1e-4 * scale + 1e-6, rtol=0, msg=name)


@torch.no_grad()
def test_chunks_change_nothing():
    inputs = aggregator_inputs(5)
    whole, _ = aggregator(chunk=5)(*inputs)
    for chunk in (1, 2, 3):
        torch.testing.assert_close(aggregator(chunk=chunk)(*inputs)[0], whole, atol=1e-5, rtol=0)


@pytest.mark.parametrize('classes', [4, 9])
@torch.no_grad()
def test_order_of_classes_does_not_matter(classes):
    module, (image, text, guidance) = aggregator(), aggregator_inputs(classes)
    order = torch.randperm(classes)
    straight = place_classes(*module(image, text, guidance), classes)
    shuffled = place_classes(*module(image, text[order], guidance), classes)
    torch.testing.assert_close(shuffled, straight[:, order], atol=1e-5, rtol=1e-5)


@torch.no_grad()
def test_large_vocabularies_keep_the_most_similar_classes():
    module, (image, text, guidance) = aggregator(), aggregator_inputs(9)
    logits, ran = module(image, text, guidance)
    similarity = torch.einsum('bdhw,cd->bchw', F.normalize(image, dim=1), text)
    for kept, scores in zip(ran, similarity.flatten(2).max(-1).values, strict=True):
        assert kept.tolist() == sorted(scores.argsort()[-6:].tolist())
    full = place_classes(logits, ran, 9)
    absent = full == ABSENT_LOGIT
    assert absent.flatten(2).all(-1).sum(1).tolist() == [3, 3]
    assert absent.sum() == 2 * 3 * 16 * 16
    # Without the rule, all classes are run and see nine in their attention.
    logits, ran = aggregator(pad_len=0)(image, text, guidance)
    assert ran is None
    assert logits.shape[1] == 9


def test_edges_of_windows():
    assert window_edges(24, 12, 0) == [0, 12, 24]
    assert window_edges(24, 12, 6) == [0, 6, 18, 24]
    assert window_edges(12, 12, 0) == [0, 12]
    with pytest.raises(ValueError, match='multiples of window_size=12, got a side of 20'):
        window_edges(20, 12, 6)


def test_attention_stays_in_its_window():
    """Equal queries and keys: the result is the mean of the values of the window."""
    zeros, value = torch.zeros(1, 2, 4, 1, 1), torch.arange(8.0).view(1, 2, 4, 1, 1)
    mixed = window_attention(zeros, zeros, value, [0, 2], [0, 1, 4])[0, ..., 0]
    # Column 0 holds 0 and 4; columns 1 to 3 hold 1, 2, 3, 5, 6, 7.
    torch.testing.assert_close(mixed, torch.tensor([[2.0, 4, 4, 4]] * 2))


@torch.no_grad()
def test_padding_classes_by_hand():
    """All weights zero but the values: attention is a mean over two classes and three pads."""
    module = ClassAggregation(4, 2, num_heads=1, pad_len=5).eval()
    for parameter in module.parameters():
        parameter.zero_()
    module.norm1.weight.fill_(1)
    module.attn.v.weight.copy_(torch.eye(4))
    module.padding_token.copy_(torch.tensor([2.0, 0, 0, -2]))
    x = torch.tensor([[1.0, -1, 1, -1], [3, 3, -3, -3]]).view(1, 2, 1, 4)
    out = module(x, torch.zeros(2, 2), (1, 1))
    # LayerNorm leaves signs, and scales the pad by 1 / sqrt(2).
    pad = torch.tensor([2**0.5, 0, 0, -(2**0.5)])
    mean = (torch.tensor([1.0, -1, 1, -1]) + torch.tensor([1.0, 1, -1, -1]) + 3 * pad) / 5
    torch.testing.assert_close(out, 2 * x + mean, atol=1e-4, rtol=0)


def test_pooling_is_for_training():
    module = randomize(ClassAggregation(8, 4, num_heads=2))
    x, text = torch.randn(1, 3, 16, 8), torch.randn(3, 4)
    trained, tested = module(x, text, (4, 4)), module.eval()(x, text, (4, 4))
    assert trained.shape == tested.shape == x.shape
    assert not torch.allclose(trained, tested, atol=1e-3)


def test_grid_that_windows_do_not_fill():
    with pytest.raises(ValueError, match='change input_size or window_size'):
        aggregator()(*aggregator_inputs(2, grid=(4, 5)))


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (dict(decoder_channels=(16, 16, 16)), 'as many channels'),
        (dict(decoder_guidance_channels=(16, 4)), 'fewer guidance_channels than the'),
        (dict(decoder_channels=(16, 20)), 'multiples of 16'),
    ],
)
def test_decoders_that_do_not_fit(change, message):
    with pytest.raises(ValueError, match=message):
        aggregator(**change)


@pytest.mark.parametrize('way', ['autocast', 'half'])
@torch.no_grad()
def test_class_attention_leaves_no_half_precision(way):
    """300 classes of large keys: their sums are beyond float16, their average is not."""
    module = ClassAggregation(8, 4, num_heads=2, pad_len=256).eval()
    for layer in (module.attn.q, module.attn.k):
        layer.bias.fill_(40)
    x, text = torch.randn(1, 300, 4, 8), torch.randn(300, 4)
    expected = module(x, text, (2, 2))
    if way == 'half':
        found = module.half()(x.half(), text.half(), (2, 2))
    else:
        with torch.autocast('cpu', torch.float16):
            found = module(x, text, (2, 2))
    torch.testing.assert_close(found.float(), expected, atol=0.05, rtol=0.01)
