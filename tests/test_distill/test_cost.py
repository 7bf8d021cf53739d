"""Costs by hand, by the published tables, and by a real step on the CPU."""

from __future__ import annotations

import pytest
import torch
from mmengine.registry import MODELS
from torch.nn import functional as F

from refineclip.distill import cost
from refineclip.distill.live_memory import LiveMemory, kernels_of_training

from .toy_runs import stage2_model
from .toys import PREPROCESSOR, STUDENT, region_batch

GRID = dict(type='GridRegions', max_split=6, max_regions=20)
# A block: 24 N W^2 for its linear layers, 4 N^2 W for the two products of attention.
TOKENS, WIDTH, BLOCKS = 17, 16, 3


@pytest.fixture(scope='module')
def b16():
    """The published tower, whose weights nobody reads."""
    return cost.build_on_meta(
        dict(
            type='RegionAlignment',
            student=dict(type='RefinerCLIP', model='EVA02-B-16', pretrained='merged2b_s8b_b131k'),
            rla=dict(type='CLIPSelfLoss'),
            scd=dict(type='SCDLoss', roi_size=7),
            refiner=dict(num_blocks=3, checkpoint='never/read.pth'),
            data_preprocessor={**PREPROCESSOR, 'crop_size': 224},
        )
    )


@pytest.mark.parametrize(
    ('image_size', 'student', 'dense_teacher'), [(1024, 3.775, 1.262), (560, 0.773, 0.259)]
)
def test_b16_costs_what_is_known(b16, image_size, student, dense_teacher):
    """TFLOP of CLIPSelf's B/16, counted from its published sizes; its tables take 13 crops."""
    b16.data_preprocessor.image_size = (image_size, image_size)
    model = b16
    assert all(parameter.device.type == 'meta' for parameter in model.parameters())
    flops = cost.step_flops(model, cost.Regions(13, 13, 'as those tables'))
    assert flops['student forward'] + flops['student backward'] == pytest.approx(
        student * 1e12, rel=0.01
    )
    assert flops['dense teacher'] == pytest.approx(dense_teacher * 1e12, rel=0.01)
    assert flops['crops'] == pytest.approx(0.457e12, rel=0.01)
    # Three products of (49, 49) with 512 channels per region: keys are detached.
    assert flops['SCD'] == 13 * 3 * 2 * 49**2 * 512


def test_toy_counted_by_hand():
    """The last block drops q, k and attention; patch embedding and projection are products too."""
    model = cost.build_on_meta(stage2_model('rla'))
    flops = cost.step_flops(model, cost.Regions(2, 2, ''))
    patches = 2 * 16 * 3 * 8**2 * WIDTH
    block = 24 * TOKENS * WIDTH**2 + 4 * TOKENS**2 * WIDTH
    last = (2 + 2 + 16) * TOKENS * WIDTH**2
    head = 2 * TOKENS * WIDTH * 12
    assert flops['student forward'] == patches + (BLOCKS - 1) * block + last + head
    # Embedding and head are frozen: no gradient of their weights, none of the image.
    blocks = (BLOCKS - 1) * block + last
    assert flops['student backward'] == 2 * blocks + head
    assert flops['crops'] == 2 * (patches + BLOCKS * block + 2 * WIDTH * 12)
    assert 'dense teacher' not in flops


def test_methods_differ_by_their_parts():
    names = {}
    for method in ('rla', 'sc-rla', 'r-sc-v'):
        model = cost.build_on_meta(stage2_model(method))
        names[method] = set(cost.step_flops(model, cost.Regions(2, 2, '')))
    assert names['sc-rla'] - names['rla'] == {'dense teacher', 'SCD'}
    assert names['sc-rla'] - names['r-sc-v'] == {'crops'}


def test_stage_one_shares_the_trunk():
    """A Refiner of two of three blocks: one block of trunk, forward only."""
    model = cost.build_on_meta(
        dict(
            type='RefinerTraining',
            encoder={**STUDENT, 'refiner': dict(num_blocks=2)},
            loss=dict(type='RefineLoss', roi_size=2),
            data_preprocessor=PREPROCESSOR,
        )
    )
    flops = cost.step_flops(model, cost.Regions(3, 3, ''))
    block = 24 * TOKENS * WIDTH**2 + 4 * TOKENS**2 * WIDTH
    assert flops['trunk'] == 2 * 16 * 3 * 8**2 * WIDTH + block
    assert set(flops) == {'trunk', 'Refiner forward', 'Refiner backward', 'crops'}
    memory = cost.step_memory(model, 2, cost.Regions(3, 3, ''), dict(type='AdamW', lr=1e-3))
    trainable, _ = cost.count_parameters(model)
    assert memory.optimizer == 2 * 4 * trainable
    assert 0 < memory.activations_with_cp < memory.activations


@pytest.mark.parametrize('dtype', [torch.float32, torch.bfloat16])
def test_planned_memory_is_that_of_a_real_step(dtype):
    """The same counter around real tensors: one step of the toy on the CPU."""
    config = stage2_model('sc-rla')
    regions = cost.Regions(2, 2, '')
    optimizer = dict(type='SGD', lr=0.1)
    planned = cost.step_memory(cost.build_on_meta(config), 3, regions, optimizer, dtype)
    model = MODELS.build(config).train()
    batch = region_batch(model)
    known = [*model.parameters(), *model.buffers(), batch.images]
    with LiveMemory(known) as memory, torch.autocast('cpu', dtype, enabled=dtype.itemsize == 2):
        losses = model(batch, mode='loss')
        sum(value for name, value in losses.items() if 'loss' in name).backward()
    real = memory.peak + batch.images.nbytes - planned.gradients
    assert planned.activations == pytest.approx(real, rel=0.2)


def test_live_memory_sees_what_lives():
    known = torch.zeros(10)
    with LiveMemory([known]) as memory:
        a = known + 1  # 40 bytes
        b = a[:5] * 2  # a view, and 20 bytes more
        del a
        assert memory.live == 20
        assert memory.peak == 60
        del b
    assert memory.live == 0


def test_kernels_are_put_back():
    before = F.linear, F.scaled_dot_product_attention
    with kernels_of_training(torch.bfloat16):
        assert F.linear is not before[0]
        assert F.linear(torch.ones(1, 2), torch.ones(1, 2)).dtype == torch.bfloat16
    assert (F.linear, F.scaled_dot_product_attention) == before


def test_regions_come_from_the_sampler():
    """24 equally likely grids of at most 20 cells: their mean by hand."""
    cells = [min(m * n, 20) for m in range(1, 7) for n in range((m + 1) // 2, min(2 * m, 6) + 1)]
    assert cost.count_regions(GRID).mean == pytest.approx(sum(cells) / 24, rel=0.02)
    some = cost.count_regions(GRID, area_range=(0.2, 1.0), max_used=2, num_draws=200)
    assert 0 < some.mean_used <= 2 < some.mean
    proposals = dict(type='ProposalRegions', proposal_file='not/there.json', max_regions=7)
    assert cost.count_regions(proposals, max_used=5).mean_used == 5


def test_only_stages_can_be_planned():
    with pytest.raises(ValueError, match="got 'FCOS'"):
        cost.build_on_meta(dict(type='FCOS'))
    model = stage2_model('rla')
    model['student'] = dict(type='RefinerCLIP', model='hf-hub:someone/something')
    with pytest.raises(ValueError, match='without a download'):
        cost.build_on_meta(model)
