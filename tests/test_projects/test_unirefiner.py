"""UniRefiner: border, low-rank updates, what counts as spurious, and the contrasts by hand."""

from __future__ import annotations

import copy
import math
import uuid
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.logging import MessageHub
from mmengine.optim import OptimWrapper
from mmengine.registry import MODELS

import projects.unirefiner.unirefiner  # noqa: F401  (registers the model and its dense modes)
from projects.unirefiner.unirefiner import ContrastiveRegisterLoss, LoRA
from projects.unirefiner.unirefiner.spurious_tokens import (
    highest_cosine,
    most_similar,
    split_tokens,
    stays_below,
)
from projects.unirefiner.unirefiner.unirefiner import BorderedMap
from refineclip.distill.hooks.weight_ensemble_hook import blended
from refineclip.distill.roi_ops import pool_tokens
from refineclip.encoders import RefinerCLIP
from refineclip.encoders.weights.checkpoint_file import read_content
from refineclip.evaluation.encoders import load_encoders
from tests.test_distill.toys import PREPROCESSOR, STUDENT, TOWER, raw_batch, region_batch

BORDERED = {**STUDENT, 'dense_mode': 'border-value'}


def build(**kwargs: Any) -> Any:
    torch.manual_seed(0)
    config = dict(
        type='UniRefiner',
        student=BORDERED,
        contrast=dict(type='ContrastiveRegisterLoss'),
        scd=dict(type='SCDLoss', loss_weight=0.4),
        lora=dict(rank=2),
        area_range=(0.0, 1.0),
        data_preprocessor={**PREPROCESSOR, 'crop_resize': 'squash'},
    )
    return MODELS.build({**config, **kwargs}).train()


def train_step(model: Any, seed: int = 0) -> None:
    model.train_step(raw_batch(seed=seed), OptimWrapper(torch.optim.SGD(model.parameters(), lr=1)))


def unit(*rows: list[float]) -> torch.Tensor:
    return F.normalize(torch.tensor([rows]), dim=-1)


def test_a_step_moves_the_updates_and_nothing_else():
    model = build()
    before = copy.deepcopy(model.state_dict())
    train_step(model)
    train_step(model, seed=1)  # the first step moves `up` alone, which starts at zero
    state = model.state_dict()
    changed = {name for name, value in state.items() if not torch.equal(value, before[name])}
    assert {name for name in changed if not name.startswith('lora.')} == {
        f'student.{name}' for name in model.lora.names
    }
    assert {name.split('.')[1] for name in changed if name.startswith('lora.')} == {'up', 'down'}
    trained = {name for name, p in model.named_parameters() if p.requires_grad}
    assert all(name.startswith('lora.') for name in trained)


def test_updates_are_of_every_matrix_of_the_blocks():
    model = build()
    names = {name.partition('resblocks.')[2][2:] for name in model.lora.names}
    assert names == {
        'attn.in_proj_weight',
        'attn.out_proj.weight',
        'mlp.c_fc.weight',
        'mlp.c_proj.weight',
    }
    fused = model.lora.down[model.lora.names.index(min(model.lora.names))]
    assert fused.shape == (3, 2, 16)  # query, key and value have updates of their own


def test_the_merged_tower_is_the_trained_one(tmp_path: Path):
    """Map in training, map after merging, map of a plain RefinerCLIP: all the same."""
    model = build()
    images = region_batch(model).images
    start = model.dense(images)
    train_step(model)
    train_step(model, seed=1)
    weights = model.lora.merged(model.teacher)
    trained = model._student_map(images, 1, weights)[..., 1:-1, 1:-1]
    assert (trained - F.normalize(start, dim=1)).abs().max() > 1e-4
    torch.testing.assert_close(F.normalize(model.dense(images), dim=1), trained)
    other = MODELS.build(BORDERED)
    other.load_state_dict(model.student.state_dict(), strict=True)
    torch.testing.assert_close(other.dense(images), model.dense(images))
    path = tmp_path / 'refined_iter_1.pth'
    torch.save(dict(state_dict=model.student.state_dict()), path)
    loaded = load_encoders({'unirefiner': str(path)}, TOWER, dense_mode='border-value')
    torch.testing.assert_close(loaded['unirefiner'].dense(images), other.dense(images))


def test_update_by_hand():
    encoder = RefinerCLIP(TOWER)
    lora = LoRA(encoder, rank=2, alpha=3.0)
    index = lora.names.index('visual.model.transformer.resblocks.1.attn.in_proj_weight')
    with torch.no_grad():
        lora.up[index].normal_()
    base = encoder.visual.blocks[1].attn.in_proj_weight
    parts = [
        rows + 1.5 * lora.up[index][i] @ lora.down[index][i] for i, rows in enumerate(base.chunk(3))
    ]
    torch.testing.assert_close(lora.merged(encoder)[lora.names[index]], torch.cat(parts))
    untouched = lora.names.index('visual.model.transformer.resblocks.1.mlp.c_fc.weight')
    assert torch.equal(
        lora.merged(encoder)[lora.names[untouched]], encoder.visual.blocks[1].mlp.c_fc.weight
    )


def test_saving_and_blending_see_the_merged_matrices():
    model = build()
    train_step(model)
    assert model._behind
    state = {name: value.clone() for name, value in model.student.state_dict().items()}
    assert not model._behind
    name = model.lora.names[0]
    torch.testing.assert_close(state[name], model.lora.merged(model.teacher)[name].detach())
    images = region_batch(model).images
    with blended(model.student, model.teacher, 0.0):  # the frozen tower
        torch.testing.assert_close(model.dense(images), model.teacher.dense(images))
    torch.testing.assert_close(model.student.state_dict(), state)


def test_a_resumed_model_goes_on_where_it_stopped():
    model = build()
    train_step(model)
    other = build()
    other.load_state_dict(model.state_dict(), strict=True)
    images = region_batch(model).images
    torch.testing.assert_close(other.dense(images), model.dense(images))
    for one in (model, other):
        train_step(one, seed=1)
    torch.testing.assert_close(other.state_dict(), model.state_dict())


def test_a_checkpoint_holds_tensors_only(tmp_path: Path):
    model = build()
    torch.save(dict(state_dict=model.state_dict()), tmp_path / 'iter_1.pth')
    state = read_content(tmp_path / 'iter_1.pth')['state_dict']
    assert state.keys() == model.state_dict().keys()


def test_registers_are_the_border():
    model = build()
    images = region_batch(model).images
    bordered = BorderedMap(model.teacher)(images, 1)
    inner, registers = model._split(bordered)
    assert inner.shape[-2:] == (4, 4)
    assert registers.shape[1] == 6 * 6 - 4 * 4
    torch.testing.assert_close(registers[:, 0], bordered[:, :, 0, 0])
    torch.testing.assert_close(registers[:, -1], bordered[:, :, -1, -1])
    torch.testing.assert_close(inner, F.normalize(model.teacher.dense(images), dim=1))
    with torch.no_grad():  # images are seen without a border by the teacher
        plain = RefinerCLIP(TOWER)
        plain.load_state_dict(model.teacher.state_dict())
        expected = F.normalize(plain.dense(images), dim=1)
        torch.testing.assert_close(BorderedMap(model.teacher)(images, 0), expected)


def test_tokens_that_look_like_elsewhere_are_spurious():
    tokens = unit([1.0, 0.0, 0.0], [0.0, 1.0, 0.0], [0.0, 0.0, 1.0])
    unrelated, background = unit([1.0, 0.1, 0.0]), unit([0.0, 1.0, 0.2])
    torch.testing.assert_close(
        highest_cosine(tokens, torch.cat([unrelated, background], dim=1))[0],
        torch.tensor([1 / 1.01**0.5, 1 / 1.04**0.5, 0.2 / 1.04**0.5]),
    )
    clean, spurious = split_tokens(tokens, unrelated, background, 0.5, 'cosine')
    assert clean.tolist() == [[False, False, True]]
    torch.testing.assert_close(spurious, tokens[:, :2])  # the most similar one of either
    assert torch.equal(most_similar(unrelated, tokens), tokens[:, :1])
    scores = torch.tensor([[0.7, 0.8, 0.9]])
    assert stays_below(scores, 0.0, 'deviations').tolist() == [[True, False, False]]
    assert stays_below(scores, 0.85, 'cosine').tolist() == [[True, True, False]]


def test_contrast_of_crops_by_hand():
    loss = ContrastiveRegisterLoss(temperature=0.5, uniformity_weight=0.3)
    student = unit([1.0, 0.0], [0.6, 0.8])
    target = unit([1.0, 0.0], [1.0, 0.0])
    others = unit([0.0, 1.0], [1.0, 0.0])
    clean = torch.tensor([[True, True]])
    first = 0.3 * math.log(math.exp(0) + math.exp(2)) - 2
    second = 0.3 * math.log(math.exp(1.6) + math.exp(1.2)) - 1.2
    found = loss.of_crops(student, target, clean, others)
    assert found.item() == pytest.approx((first + second) / 2, rel=1e-5)
    # Only clean tokens are learnt from; with none in the batch, all.
    one = loss.of_crops(student, target, torch.tensor([[False, True]]), others)
    assert one.item() == pytest.approx(second, rel=1e-5)
    torch.testing.assert_close(loss.of_crops(student, target, ~clean, others), found)
    torch.testing.assert_close(loss.of_crops(student, target, clean, others, 2.0), found / 2)


def test_contrast_of_registers_by_hand():
    loss = ContrastiveRegisterLoss(temperature=0.5, register_weight=0.1)
    registers = unit([1.0, 0.0], [0.0, 1.0])
    spurious = unit([0.8, 0.6], [0.0, 1.0], [-1.0, 0.0])
    # Register 1 is drawn to the first (.8), register 2 to the second (1); the third is nobody's.
    first = math.log(math.exp(1.6) + math.exp(0)) - 1.6
    second = math.log(math.exp(1.2) + math.exp(2)) - 2
    found = loss.of_registers(registers, spurious)
    assert found.item() == pytest.approx(0.1 * (first + second) / 2, rel=1e-5)


def test_apart_has_no_slope_where_it_is_reached():
    loss = ContrastiveRegisterLoss(apart_threshold=0.55)
    image = torch.tensor([[[1.0, 0.0]]])
    for cosine, moves in ((0.5, False), (0.9, True)):
        angle = math.acos(cosine)
        registers = torch.tensor([[[math.cos(angle), math.sin(angle)]]], requires_grad=True)
        found = loss.apart(image, registers)
        assert found.item() == pytest.approx(cosine / 0.2, rel=1e-4)
        found.backward()
        assert (registers.grad.abs().max() > 0) == moves


@pytest.mark.parametrize('term', ['of_crops', 'of_registers', 'apart'])
def test_gradients(term):
    torch.manual_seed(0)
    loss = ContrastiveRegisterLoss()
    student = F.normalize(torch.randn(2, 4, 3, dtype=torch.double), dim=-1).requires_grad_()
    other = F.normalize(torch.randn(2, 5, 3, dtype=torch.double), dim=-1)
    clean = torch.ones(2, 4, dtype=torch.bool)
    target = F.normalize(student.detach() + 0.1, dim=-1)
    calls = {
        'of_crops': lambda x: loss.of_crops(x, target, clean, other),
        'of_registers': lambda x: loss.of_registers(x, other),
        'apart': lambda x: loss.apart(x, other),
    }
    # Values of cosines below the thresholds have no slope on purpose, so all are above them here.
    loss.apart_threshold = -2.0
    if term != 'of_crops':
        assert torch.autograd.gradcheck(calls[term], student)
    calls[term](student).backward()
    assert student.grad is not None
    assert student.grad.isfinite().all()


def test_losses_and_what_is_logged():
    model = build()
    losses = model(region_batch(model), mode='loss')
    assert set(losses) == {
        *('loss_nce', 'loss_register', 'loss_apart', 'loss_scd'),
        *('clean_share', 'region_crop_cosine'),
    }
    assert all(value.isfinite() for value in losses.values())
    without = build(scd=None)
    assert 'loss_scd' not in without(region_batch(without), mode='loss')


def test_scd_is_against_the_students_own_crop_and_starts_late():
    model = build(scd=dict(type='SCDLoss', loss_weight=0.4, start=0.1), scd_border=2)
    hub = MessageHub.get_instance(f'unirefiner-{uuid.uuid4().hex}')
    hub.update_info('max_iters', 100)
    hub.update_info('iter', 10)
    batch = region_batch(model)
    assert model(batch, mode='loss')['loss_scd'].item() == 0
    hub.update_info('iter', 11)
    losses = model(batch, mode='loss')
    assert losses['scd_weight'].item() == pytest.approx(0.4)
    with torch.no_grad():
        image, _ = model._split(BorderedMap(model.student)(batch.images, 1))
        rows = model.select(batch)['crops']
        tokens = pool_tokens(image, batch.boxes[rows], 4)
        crops = BorderedMap(model.student)(batch.crops[rows], 2)[..., 2:-2, 2:-2]
        expected = model.scd(tokens, crops.flatten(2).transpose(1, 2))
    torch.testing.assert_close(losses['loss_scd'].detach(), expected, rtol=1e-4, atol=1e-5)


def test_a_batch_without_a_crop_trains_what_it_can():
    model = build(area_range=(0.999, 1.0))
    losses = model(region_batch(model), mode='loss')
    assert losses['loss_nce'].item() == losses['loss_scd'].item() == 0
    sum(value for name, value in losses.items() if name.startswith('loss')).backward()


def test_three_crops_an_image():
    model = build(max_regions_per_image=1)
    batch = region_batch(model)
    rows = model.select(batch)['crops']
    assert batch.boxes[rows, 0].tolist() == [0, 1, 2]


@pytest.mark.parametrize(
    ('options', 'message'),
    [
        (dict(student=STUDENT), r"expected 'border-plain' or 'border-value', got 'value'"),
        (dict(student={**BORDERED, 'with_cp': True}), 'with_cp: expected False'),
        (dict(student={**BORDERED, 'refiner': dict(num_blocks=1)}), 'without a Refiner'),
        (dict(lora=dict(rank=0)), 'lora.rank: expected 1 or more, got 0'),
        (dict(lora=dict(rank=17)), 'lora.rank: expected at most 16'),
        (dict(threshold_rule='share'), "threshold_rule: expected one of .*, got 'share'"),
        (dict(data_preprocessor=PREPROCESSOR), "crop_resize='squash'"),
        (dict(contrast=dict(type='ContrastiveRegisterLoss', temperature=0)), 'a value > 0, got 0'),
    ],
)
def test_wrong_input(options, message):
    with pytest.raises(ValueError, match=message):
        build(**options)


def test_published_numbers_are_in_every_config(repo_root: Path):
    paths = sorted((repo_root / 'projects/unirefiner/configs').glob('*.py'))
    assert len(paths) == 3
    for path in paths:
        model = Config.fromfile(path).model
        assert model.lora.to_dict() == dict(rank=8, alpha=16)
        assert model.contrast.temperature == 0.2
        assert (model.scd.loss_weight, model.scd.start) == (0.4, 0.1)
        assert (tuple(model.area_range), model.max_regions_per_image) == ((0.25, 0.5), 3)
