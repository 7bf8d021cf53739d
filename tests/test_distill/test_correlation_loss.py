"""Correlations of whole images: numbers by hand, what counts, gradients."""

from __future__ import annotations

import pytest
import torch

from refineclip.distill.losses import CorrelationLoss, correlation_loss

# Two tokens at a right angle, and two that are one: cosines 0 and 1 apart from the diagonal.
APART = torch.tensor([[[2.0, 0.0], [0.0, 3.0]]])
ALIKE = torch.tensor([[[1.0, 1.0], [4.0, 4.0]]])


def test_numbers_by_hand():
    # Each row differs by 1 in one of its two elements.
    assert correlation_loss(APART, ALIKE).item() == pytest.approx(1.0)
    assert correlation_loss(APART, ALIKE, distance='mse').item() == pytest.approx(0.5)


def test_equal_correlations_cost_nothing_whatever_the_width_and_length_of_tokens():
    student = torch.randn(2, 5, 4)
    turn = torch.linalg.qr(torch.randn(6, 4))[0]
    teacher = 3 * student @ turn.T
    assert correlation_loss(student, teacher).abs().max() < 1e-3
    assert correlation_loss(student, teacher, distance='mse').abs().max() < 1e-9


def test_padding_counts_for_nothing():
    student, teacher = torch.randn(1, 4, 3), torch.randn(1, 4, 3)
    valid = torch.tensor([[True, True, True, False]])
    for distance in ('row-norm', 'mse'):
        found = correlation_loss(student, teacher, valid, distance)
        torch.testing.assert_close(
            found, correlation_loss(student[:, :3], teacher[:, :3], None, distance)
        )


@pytest.mark.parametrize('distance', ['row-norm', 'mse'])
def test_gradient_is_the_students_alone_and_finite_at_equality(distance):
    student = torch.randn(2, 4, 3, requires_grad=True)
    loss = CorrelationLoss(distance, loss_weight=0.25)
    loss(student, student).backward()  # the teacher's side receives none
    assert student.grad.isfinite().all()
    double = torch.randn(1, 3, 2, dtype=torch.double, requires_grad=True)
    teacher = torch.randn(1, 3, 5, dtype=torch.double)
    value = correlation_loss(double, teacher, distance=distance)
    assert value.dtype == torch.float32
    assert value.requires_grad


def test_maps_are_lists_of_tokens_without_those_of_padding():
    loss = CorrelationLoss('mse', loss_weight=0.5)
    student, teacher = torch.randn(2, 3, 2, 4), torch.randn(2, 5, 2, 4)
    pictures = torch.tensor([[0.0, 0.0, 1.0, 1.0], [0.0, 0.0, 0.5, 1.0]])
    first, second = (
        correlation_loss(
            student[i, :, :, :columns].flatten(1).T[None],
            teacher[i, :, :, :columns].flatten(1).T[None],
            distance='mse',
        )
        for i, columns in ((0, 4), (1, 2))
    )
    expected = 0.5 * torch.cat([first, second]).mean()
    torch.testing.assert_close(loss.of_maps(student, teacher, pictures), expected)
    torch.testing.assert_close(loss.of_maps(student, teacher, pictures, 4.0), expected / 2)
    with pytest.raises(ValueError, match=r'one grid, got \(2, 4\) and \(1, 4\)'):
        loss.of_maps(student, teacher[:, :, :1])


def test_weight_and_divisor():
    loss = CorrelationLoss(loss_weight=0.25)
    assert loss(APART, ALIKE).item() == pytest.approx(0.25)
    assert loss(APART, ALIKE, avg_factor=2).item() == pytest.approx(0.125)


def test_wrong_input():
    with pytest.raises(ValueError, match='one grid'):
        correlation_loss(torch.randn(1, 4, 3), torch.randn(1, 9, 3))
    with pytest.raises(ValueError, match=r"'row-norm', 'mse'.*got 'l1'"):
        CorrelationLoss('l1')
    with pytest.raises(ValueError, match=r'\[0, 1\), got 1'):
        CorrelationLoss(start=1.0)
