"""The image-level term: zero where it starts, pulls back where the student has moved."""

from __future__ import annotations

import copy

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from torch.nn import functional as F

import refineclip.distill  # noqa: F401
from refineclip.distill.losses import RetentionLoss

from .toys import PREPROCESSOR, SIZE, STUDENT, raw_batch, region_batch


def build(method='rla', **kwargs):
    config = dict(
        type='RegionAlignment',
        student=STUDENT,
        method=method,
        rla=dict(type='CLIPSelfLoss'),
        scd=dict(type='SCDLoss', roi_size=2),
        refiner=dict(num_blocks=2),
        retention=dict(type='RetentionLoss', loss_weight=2.0),
        data_preprocessor=PREPROCESSOR,
    )
    return MODELS.build({**config, **kwargs}).train()


def move(model, size=0.1):
    with torch.no_grad():
        for parameter in model.student.parameters():
            parameter.add_(size * torch.randn_like(parameter) * parameter.requires_grad)


def student_gradient(model, loss):
    trained = [p for p in model.student.parameters() if p.requires_grad]
    return torch.autograd.grad(loss, trained, allow_unused=True), trained


def test_loss_by_hand():
    student = torch.tensor([[2.0, 0.0], [0.0, 3.0], [-1.0, 0.0]], requires_grad=True)
    teacher = torch.tensor([[5.0, 0.0], [1.0, 0.0], [1.0, 0.0]], requires_grad=True)
    loss = RetentionLoss(loss_weight=2.0)
    value = loss(student, teacher)
    assert value.item() == pytest.approx(2 * (0 + 1 + 2) / 3)
    assert loss(student, teacher, avg_factor=6.0).item() == pytest.approx(1.0)
    value.backward()
    assert teacher.grad is None
    assert student.grad is not None


def test_no_image_gives_a_connected_zero():
    student = torch.zeros(0, 4, requires_grad=True)
    loss = RetentionLoss()(student, torch.zeros(0, 4))
    assert loss.item() == 0
    loss.backward()


def test_the_key_adds_the_loss_and_nothing_else():
    plain, kept = build(retention=None), build()
    batch = region_batch(plain)
    assert set(plain(batch, mode='loss')) == {'loss_rla', 'region_crop_cosine'}
    assert 'whole' not in vars(batch)  # no copy is made unless someone asks
    assert set(kept(region_batch(kept), mode='loss')) == {
        'loss_rla',
        'region_crop_cosine',
        'loss_retention',
    }


@pytest.mark.parametrize('method', ['rla', 'sc-rla', 'r-sc-rla', 'r-sc-v'])
def test_value_and_gradient_are_zero_at_the_start(method):
    model = build(method)
    loss = model(region_batch(model), mode='loss')['loss_retention']
    assert loss.item() == pytest.approx(0, abs=1e-5)
    gradients, _ = student_gradient(model, loss)
    gradients = [g for g in gradients if g is not None]
    assert gradients
    assert max(g.abs().max() for g in gradients) < 1e-5


def test_it_is_the_cosine_of_whole_images():
    model = build()
    move(model)
    batch = region_batch(model)
    loss = model(batch, mode='loss')['loss_retention']
    assert batch.whole.shape == (3, 3, SIZE, SIZE)
    cosine = F.cosine_similarity(
        model.student.image_embedding(batch.whole), model.teacher.image_embedding(batch.whole)
    )
    assert loss.item() == pytest.approx(2 * (1 - cosine.mean().item()), rel=1e-4)
    assert loss.item() > 1e-4


def test_a_step_down_its_gradient_brings_the_student_back():
    model = build()
    move(model)
    batch = region_batch(model)
    before = model(batch, mode='loss')['loss_retention']
    gradients, trained = student_gradient(model, before)
    with torch.no_grad():
        for parameter, gradient in zip(trained, gradients, strict=True):
            parameter.sub_(1e-2 * gradient)
    assert model(batch, mode='loss')['loss_retention'] < before


def test_the_teacher_gets_no_gradient():
    model = build()
    move(model)
    model(region_batch(model), mode='loss')['loss_retention'].backward()
    assert all(p.grad is None for p in model.teacher.parameters())


def test_it_holds_the_image_embedding_during_training():
    """The same steps with and without the term, from the same start."""
    drift = {}
    for weight in (0.0, 10.0):
        torch.manual_seed(0)
        model = build(retention=dict(type='RetentionLoss', loss_weight=weight))
        batch = region_batch(model)
        optimizer = torch.optim.SGD(model.student.parameters(), lr=0.05)
        for _ in range(8):
            losses = model(batch, mode='loss')
            optimizer.zero_grad()
            (losses['loss_rla'] + losses['loss_retention']).backward()
            optimizer.step()
        with torch.no_grad():
            student = model.student.image_embedding(batch.whole)
            teacher = model.teacher.image_embedding(batch.whole)
            drift[weight] = 1 - F.cosine_similarity(student, teacher).mean().item()
    assert drift[10.0] < 0.5 * drift[0.0]


def test_whole_images_follow_the_selection():
    model = build()
    batch = region_batch(model)
    whole = batch.whole
    part = batch.select([2, 0])
    assert torch.equal(part.whole, whole[[2, 0]])
    assert torch.equal(part.select([1]).whole, whole[[0]])
    bare = copy.copy(batch)
    vars(bare).pop('whole')
    bare.resize_whole = None
    with pytest.raises(ValueError, match='without pictures'):
        _ = bare.whole


def test_a_whole_image_equals_its_crop():
    model = build()
    data = raw_batch()
    data['boxes'] = [torch.tensor([[0.0, 0.0, 1.0, 1.0]])] * 3
    batch = model.data_preprocessor(data, True)['inputs']
    assert torch.equal(batch.whole, batch.crops)


def test_images_without_regions_still_count():
    model = build()
    move(model)
    data = raw_batch()
    data['boxes'] = [torch.zeros(0, 4)] * 3
    losses = model(model.data_preprocessor(data, True)['inputs'], mode='loss')
    assert losses['loss_rla'].item() == 0
    assert losses['loss_retention'].item() > 1e-4


def test_a_config_takes_the_key(repo_root):
    config = Config.fromfile(
        repo_root / 'configs' / 'distill' / 'toy' / 'rla_vit-toy_1xb2-4i_photos.py'
    )
    config.merge_from_dict({'model.retention': dict(type='RetentionLoss', loss_weight=0.5)})
    model = MODELS.build(config.model)
    assert isinstance(model.retention, RetentionLoss)
    assert model.retention.loss_weight == 0.5


def test_it_alone_reaches_the_queries_and_keys_of_the_last_block():
    """Dense mode 'value' has no attention there; the image embedding has."""
    model = build()
    move(model)
    losses = model(region_batch(model), mode='loss')
    weight = model.student.visual.blocks[-1].attn.in_proj_weight  # queries, keys, values
    (of_regions,) = torch.autograd.grad(losses['loss_rla'], weight, retain_graph=True)
    (of_images,) = torch.autograd.grad(losses['loss_retention'], weight)
    queries_and_keys = slice(0, 2 * len(weight) // 3)
    assert of_regions[queries_and_keys].abs().max() == 0
    assert of_images[queries_and_keys].abs().max() > 0
