"""SCD, RLA and Refiner losses against hand-worked numbers and their own definitions."""

from __future__ import annotations

import math
import uuid

import pytest
import torch
from mmengine.logging import MessageHub
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from refineclip.distill.losses import (
    CLIPSelfLoss,
    RefineLoss,
    RegionTextLoss,
    SCDLoss,
    refine_loss,
    scd_loss,
    spatial_correlation,
)
from refineclip.distill.losses.refine_loss import sample_bank
from refineclip.distill.losses.scd_loss import minmax_rows
from refineclip.distill.roi_ops import pool_tokens


def tokens(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator, dtype=dtype)


# The plain softmax of cosines.
PLAIN = dict(normalize='none', detach_keys=False, student_temperature=0.1, teacher_temperature=0.1)


class TestSCDLoss:
    def test_defaults_are_what_the_search_picked(self):
        """docs/search.md; a change of these is a change of every preset."""
        loss = SCDLoss()
        assert loss.options == dict(
            normalize='minmax',
            detach_keys=True,
            student_temperature=0.2,
            teacher_temperature=0.2,
            divergence='ce',
        )
        assert loss.loss_weight == 1.0
        student, teacher = tokens(2, 5, 4), tokens(2, 5, 3, seed=1)
        expected = loss.loss_weight * scd_loss(student, teacher).mean()
        torch.testing.assert_close(loss(student, teacher), expected)

    def test_default_by_hand(self):
        """Rows of the teacher, scaled to [1, 0], at temperature .2 against the student's.

        The student's two tokens are at 60 degrees, cosine .5 where the teacher has 0, and scaled to
        the same [1, 0]: the level of its cosines plays no part, in the plain form it does.
        """
        teacher = torch.eye(2)[None]
        student = torch.tensor([[[1.0, 0.0], [0.5, math.sqrt(0.75)]]])
        p = math.exp(5) / (math.exp(5) + 1)
        entropy = -(p * math.log(p) + (1 - p) * math.log(1 - p))
        assert scd_loss(student, teacher).item() == pytest.approx(entropy, abs=1e-5)
        # Plain, KL: -log(e^10 / (e^10 + e^5)) and the small rest.
        plain = scd_loss(student, teacher, **PLAIN, divergence='kl').item()
        assert plain == pytest.approx(math.log(1 + math.exp(-5)), abs=5e-4)

    def test_hand_worked_number(self):
        """Two orthogonal tokens against two equal ones, temperature 1.

        Teacher rows softmax([1, 0]) = [e/(e+1), 1/(e+1)]; student rows are uniform, so the
        cross-entropy is log 2, whatever the teacher says.
        """
        teacher = torch.eye(2)[None]
        student = torch.tensor([[[3.0, 0.0], [5.0, 0.0]]])
        options = {**PLAIN, 'student_temperature': 1.0, 'teacher_temperature': 1.0}
        assert scd_loss(student, teacher, **options).item() == pytest.approx(math.log(2))
        # The other way round: uniform teacher, student rows [1, 0]: mean of -log p over both keys.
        p = math.e / (math.e + 1)
        expected = -0.5 * (math.log(p) + math.log(1 - p))
        assert scd_loss(teacher, student, **options).item() == pytest.approx(expected)

    def test_kl_is_cross_entropy_minus_entropy(self):
        student, teacher = tokens(2, 5, 4), tokens(2, 5, 3, seed=1)
        p = F.softmax(spatial_correlation(teacher) / 0.1, dim=-1)
        entropy = -(p * p.log()).sum(-1).mean(-1)
        ce, kl = (scd_loss(student, teacher, **PLAIN, divergence=name) for name in ('ce', 'kl'))
        torch.testing.assert_close(ce - kl, entropy)
        assert scd_loss(teacher, teacher, divergence='kl').abs().max() < 1e-6

    def test_mse_by_hand(self):
        teacher = torch.eye(2)[None]
        student = torch.ones(1, 2, 2)
        # Off-diagonal cosines 1 against 0: two of four entries are off by one.
        loss = scd_loss(student, teacher, **PLAIN, divergence='mse')
        assert loss.item() == pytest.approx(0.5)

    def test_minmax_rows_by_hand(self):
        rows = torch.tensor([[[1.0, 0.5, -0.5], [0.0, 1.0, 0.5], [0.2, 0.4, 1.2]]])
        expected = torch.tensor([[[1, 2 / 3, 0], [0, 1, 0.5], [0, 0.2, 1]]])
        torch.testing.assert_close(minmax_rows(rows), expected, atol=1e-5, rtol=0)

    @pytest.mark.parametrize('divergence', ['ce', 'kl', 'mse'])
    @pytest.mark.parametrize('normalize', ['none', 'minmax'])
    def test_gradcheck(self, divergence, normalize):
        student = tokens(1, 4, 3, dtype=torch.float64).requires_grad_()
        teacher = tokens(1, 4, 3, seed=1)

        def compute(x: torch.Tensor) -> torch.Tensor:
            # Detached keys have no part in the slope of the loss.
            return scd_loss(x, teacher, 0.5, 0.5, normalize, False, divergence).double()

        # The loss works in float32, so finite differences get float32 tolerances.
        loss = compute(student)
        (gradient,) = torch.autograd.grad(loss.sum(), student)
        step = 1e-2
        for index in [(0, 0, 0), (0, 1, 2), (0, 3, 1)]:
            shifted = student.detach().clone()
            shifted[index] += step
            plus = compute(shifted)
            shifted[index] -= 2 * step
            slope = (plus - compute(shifted)) / (2 * step)
            assert gradient[index].item() == pytest.approx(slope.item(), abs=2e-3)

    @pytest.mark.parametrize('normalize', ['none', 'minmax'])
    @pytest.mark.parametrize('detach_keys', [False, True])
    def test_no_gradient_at_equality(self, normalize, detach_keys):
        """Plain SCD is degenerate: with student = teacher there is nothing to learn."""
        student = tokens(2, 6, 4).requires_grad_()
        options = dict(normalize=normalize, detach_keys=detach_keys)
        SCDLoss(**options)(student, student.detach().clone()).backward()
        assert student.grad.abs().max() < 1e-6
        other = tokens(2, 6, 4).requires_grad_()
        SCDLoss(**options)(other, tokens(2, 6, 4, seed=1)).backward()
        assert other.grad.abs().max() > 1e-3

    @pytest.mark.parametrize(
        ('start', 'iteration', 'length', 'started'),
        [
            (0.0, 0, 100, True),
            (0.1, 0, 100, False),
            # UniRefiner's published code: iteration / iterations > 0.1.
            (0.1, 10, 100, False),
            (0.1, 11, 100, True),
            (0.5, 0, None, True),  # no training runs
        ],
    )
    def test_start_is_a_share_of_the_training(self, monkeypatch, start, iteration, length, started):
        hub = MessageHub(uuid.uuid4().hex)
        hub.update_info('iter', iteration)
        if length is not None:
            hub.update_info('max_iters', length)
        monkeypatch.setattr(MessageHub, 'get_current_instance', lambda: hub)
        assert SCDLoss(start=start).started is started

    def test_start_is_checked(self):
        with pytest.raises(ValueError, match=r'start: expected a share .* got 1'):
            SCDLoss(start=1)

    # 162: two regions at a time; 30: blocks of three rows of one region.
    @pytest.mark.parametrize('max_correlations', [2 * 81, 30])
    @pytest.mark.parametrize(
        'options',
        [
            {},
            PLAIN,
            {**PLAIN, 'divergence': 'kl', 'detach_keys': True},
            {**PLAIN, 'divergence': 'mse'},
            dict(detach_keys=False),
        ],
    )
    def test_streamed_equals_batched(self, options, max_correlations):
        student, teacher = tokens(5, 9, 4), tokens(5, 9, 6, seed=1)
        batched_input, streamed_input = (student.clone().requires_grad_() for _ in range(2))
        batched = SCDLoss(**options)(batched_input, teacher)
        streamed = SCDLoss(**options, max_correlations=max_correlations)(streamed_input, teacher)
        (3 * batched).backward()
        (3 * streamed).backward()
        torch.testing.assert_close(batched, streamed, atol=1e-6, rtol=0)
        torch.testing.assert_close(batched_input.grad, streamed_input.grad, atol=1e-6, rtol=0)

    @pytest.mark.parametrize('max_correlations', [2**20, 2 * 81, 30])
    def test_of_maps_pools_and_streams(self, max_correlations):
        student, teacher = tokens(3, 4, 6, 5), tokens(3, 6, 4, 4, seed=1)
        # The image in the middle has no region.
        boxes = torch.tensor(
            [[0, 0, 0, 1, 1], [0, 0.1, 0.2, 0.6, 0.7], [2, 0, 0.3, 0.9, 1], [2, 0.2, 0, 1, 0.5]]
        )
        plain, other = (student.clone().requires_grad_() for _ in range(2))
        expected = SCDLoss(roi_size=3)(
            pool_tokens(F.normalize(plain, dim=1), boxes, 3),
            pool_tokens(F.normalize(teacher, dim=1), boxes, 3),
            avg_factor=7.0,
        )
        loss = SCDLoss(roi_size=3, max_correlations=max_correlations).of_maps(
            other, teacher, boxes, avg_factor=7.0
        )
        expected.backward()
        loss.backward()
        torch.testing.assert_close(loss, expected, atol=1e-6, rtol=0)
        torch.testing.assert_close(other.grad, plain.grad, atol=1e-6, rtol=0)
        assert other.grad[1].abs().max() == 0

    def test_streaming_keeps_one_chunk_of_correlations(self):
        student = tokens(4, 16, 2).requires_grad_()
        made = []

        class Shapes(TorchDispatchMode):
            def __torch_dispatch__(self, func, types, args=(), kwargs=None):
                out = func(*args, **(kwargs or {}))
                if isinstance(out, torch.Tensor) and out.shape[-2:] == (16, 16):
                    made.append(out.shape[0])
                return out

        with Shapes():
            loss = SCDLoss(max_correlations=256)(student, tokens(4, 16, 2, seed=1))
            loss.backward()
        assert made
        assert max(made) == 1

    def test_a_second_backward_through_a_stream_is_refused(self):
        loss = SCDLoss(max_correlations=16)(tokens(3, 4, 2).requires_grad_(), tokens(3, 4, 2))
        loss.backward(retain_graph=True)
        with pytest.raises(RuntimeError, match='max_correlations'):
            loss.backward()

    def test_regions_do_not_leak_into_each_other(self):
        student, teacher = tokens(3, 5, 4).requires_grad_(), tokens(3, 5, 4, seed=1)
        together = scd_loss(student, teacher)
        alone = torch.cat(
            [scd_loss(s[None], t[None]) for s, t in zip(student, teacher, strict=True)]
        )
        torch.testing.assert_close(together, alone)
        (gradient,) = torch.autograd.grad(together[0], student)
        assert gradient[0].abs().sum() > 0
        assert gradient[1:].abs().sum() == 0

    def test_avg_factor_and_weight(self):
        student, teacher = tokens(3, 5, 4), tokens(3, 5, 4, seed=1)
        plain = SCDLoss()(student, teacher)
        weighted = SCDLoss(loss_weight=2 * SCDLoss().loss_weight)(student, teacher, avg_factor=6)
        torch.testing.assert_close(plain, weighted)

    def test_bfloat16_tokens_give_a_float32_loss(self):
        loss = SCDLoss()(tokens(2, 4, 3).bfloat16(), tokens(2, 4, 3, seed=1).bfloat16())
        assert loss.dtype == torch.float32

    def test_no_region_trains_nothing(self):
        student = torch.zeros(0, 4, 3, requires_grad=True)
        loss = SCDLoss()(student, torch.zeros(0, 4, 3))
        loss.backward()
        assert loss.item() == 0

    @pytest.mark.parametrize(
        'options', [{'normalize': 'l2'}, {'divergence': 'js'}, {'student_temperature': 0.0}]
    )
    def test_unknown_options(self, options):
        with pytest.raises(ValueError, match='expected'):
            SCDLoss(**options)

    def test_regions_must_match(self):
        with pytest.raises(ValueError, match='same regions'):
            SCDLoss()(tokens(2, 4, 3), tokens(3, 4, 3))


class TestCLIPSelfLoss:
    def test_hand_worked_number(self):
        student = torch.tensor([[2.0, 0.0], [0.0, 1.0], [3.0, 4.0]])
        teacher = torch.tensor([[5.0, 0.0], [0.0, -1.0], [1.0, 0.0]])
        # Cosines 1, -1, 3/5: mean of 0, 2 and 2/5.
        assert CLIPSelfLoss()(student, teacher).item() == pytest.approx(0.8)

    def test_teacher_gets_no_gradient(self):
        student, teacher = tokens(2, 3).requires_grad_(), tokens(2, 3, seed=1).requires_grad_()
        CLIPSelfLoss()(student, teacher).backward()
        assert student.grad is not None
        assert teacher.grad is None

    def test_no_region(self):
        assert CLIPSelfLoss()(torch.zeros(0, 3), torch.zeros(0, 3)).item() == 0


class TestRegionTextLoss:
    def test_hand_worked_number(self):
        loss = RegionTextLoss(torch.eye(3), num_sampled=3, logit_scale=2.0)
        student = torch.tensor([[1.0, 0.0, 0.0]])
        # Logits 2, 0, 0 with the first noun true: log(1 + e^-2) + 2 log 2, summed over nouns.
        expected = math.log(1 + math.exp(-2)) + 2 * math.log(2)
        assert loss(student, torch.tensor([0])).item() == pytest.approx(expected)

    def test_present_nouns_are_always_sampled(self):
        loss = RegionTextLoss(tokens(50, 4), num_sampled=7)
        nouns = loss.sample_nouns(torch.tensor([3, 41, 3]))
        assert len(nouns) == 7 == len(nouns.unique())
        assert {3, 41} <= set(nouns.tolist())

    def test_more_nouns_in_the_batch_than_asked(self):
        nouns = RegionTextLoss(tokens(9, 4), num_sampled=2).sample_nouns(torch.arange(5))
        assert nouns.tolist() == [0, 1, 2, 3, 4]

    def test_text_is_frozen_and_not_in_the_checkpoint(self):
        loss = RegionTextLoss(tokens(5, 4))
        assert not list(loss.parameters())
        assert not loss.state_dict()


class TestRefineLoss:
    def test_infonce_by_hand(self):
        """One cell per image, orthogonal targets: -log(e^5 / (e^5 + 1)) at temperature 0.2."""
        target = torch.eye(2)[:, None]
        loss = RefineLoss(num_negatives_per_image=1)(target, target, torch.tensor([0, 1]))
        assert loss.item() == pytest.approx(math.log(1 + math.exp(-5)), abs=1e-6)

    def test_cosine_by_hand(self):
        refined = torch.tensor([[[1.0, 0.0], [0.0, 1.0]]])
        target = torch.tensor([[[1.0, 0.0], [1.0, 0.0]]])
        loss = RefineLoss(kind='cosine')(refined, target, torch.tensor([0]))
        assert loss.item() == pytest.approx(0.5)

    def test_negatives_never_come_from_the_own_image(self):
        """Changing an own-image target moves the loss only through its positive."""
        refined = tokens(3, 4, 5)
        target, image = tokens(3, 4, 5, seed=1), torch.tensor([0, 0, 1])
        module = RefineLoss(num_negatives_per_image=99)
        baseline = self.per_region(module, refined, target, image)
        changed = target.clone()
        changed[1] = tokens(4, 5, seed=2)  # region 1, same image as region 0
        moved = self.per_region(module, refined, changed, image)
        assert moved[0] == pytest.approx(baseline[0])
        assert moved[2] != pytest.approx(baseline[2])

    @staticmethod
    def per_region(module, refined, target, image):
        refined, target = F.normalize(refined, dim=-1), F.normalize(target, dim=-1)
        positive = (refined * target).sum(-1)
        bank = module._bank(target, image)
        return module._cross_image_infonce(refined, positive, image, *bank).mean(1).tolist()

    def test_bank_takes_so_many_cells_of_every_image(self):
        target = torch.arange(24.0).reshape(3, 8, 1)
        cells, owner = sample_bank(target, torch.tensor([0, 0, 1]), 5)
        assert owner.tolist() == [0] * 5 + [1] * 5
        assert (cells[:5] < 16).all()
        assert (cells[5:] >= 16).all()
        assert len(cells.unique()) == 10

    def test_one_image_has_no_negatives_and_warns_once(self, monkeypatch):
        refined = tokens(2, 4, 3).requires_grad_()
        warnings = []
        monkeypatch.setattr(refine_loss, 'print_log', lambda text, **kwargs: warnings.append(text))
        module = RefineLoss()
        module(refined, tokens(2, 4, 3, seed=1), torch.tensor([0, 0]))
        loss = module(refined, tokens(2, 4, 3, seed=1), torch.tensor([0, 0]))
        assert len(warnings) == 1
        loss.backward()
        assert loss.item() == 0
        assert torch.isfinite(refined.grad).all()

    def test_same_crop_negatives_warn(self, monkeypatch):
        warnings = []
        monkeypatch.setattr(refine_loss, 'print_log', lambda text, **kwargs: warnings.append(text))
        RefineLoss()
        assert not warnings
        RefineLoss(negatives='same-crop')
        assert 'destroyed' in warnings[0]

    def test_gradient(self):
        refined = tokens(3, 4, 5).requires_grad_()
        target, image = tokens(3, 4, 5, seed=1), torch.tensor([0, 1, 2])
        module = RefineLoss(num_negatives_per_image=99)
        loss = module(refined, target, image)
        (gradient,) = torch.autograd.grad(loss, refined)
        step = torch.zeros_like(refined)
        step[1, 2, 3] = 1e-2
        with torch.no_grad():
            slope = (
                module(refined + step, target, image) - module(refined - step, target, image)
            ) / 2e-2
        assert gradient[1, 2, 3].item() == pytest.approx(slope.item(), abs=1e-3)

    @pytest.mark.parametrize(
        'options', [{'kind': 'l2'}, {'negatives': 'all'}, {'temperature': -1.0}]
    )
    def test_unknown_options(self, options):
        with pytest.raises(ValueError, match='expected'):
            RefineLoss(**options)
