"""Stage 2: the four methods, the frozen teacher, and what a step changes."""

from __future__ import annotations

import copy

import pytest
import torch
from mmengine.optim import OptimWrapper
from mmengine.registry import MODELS

import refineclip.distill  # noqa: F401
from refineclip.distill import region_alignment
from refineclip.distill.distillation_model import select_regions
from refineclip.encoders.text.text_head import TextHead

from .toys import PATCH, PREPROCESSOR, SIZE, STUDENT, TOWER, raw_batch, region_batch


def build(method='r-sc-rla', **kwargs):
    config = dict(
        type='RegionAlignment',
        student=STUDENT,
        method=method,
        rla=dict(type='CLIPSelfLoss'),
        scd=dict(type='SCDLoss', roi_size=2),
        refiner=dict(num_blocks=2),
        data_preprocessor=PREPROCESSOR,
    )
    return MODELS.build({**config, **kwargs}).train()


@pytest.mark.parametrize(
    ('method', 'parts', 'crops'),
    [
        ('rla', {'loss_rla'}, True),
        ('sc-rla', {'loss_rla', 'loss_scd'}, True),
        ('r-sc-rla', {'loss_rla', 'loss_scd'}, True),
        ('r-sc-v', {'loss_scd'}, False),
    ],
)
def test_one_key_moves_through_the_family(method, parts, crops):
    model = build(method)
    batch = region_batch(model)
    losses = model(batch, mode='loss')
    assert ('crops' in vars(batch)) == crops  # cut only if the teacher looks
    assert {name for name in losses if name.startswith('loss')} == parts
    assert (model.teacher.refiner is not None) == method.startswith('r-sc')


@pytest.mark.parametrize('method', ['rla', 'sc-rla', 'r-sc-rla', 'r-sc-v'])
def test_a_step_moves_the_blocks_and_nothing_else(method):
    model = build(method)
    with torch.no_grad():  # a Refiner that differs from the encoder, so that R-SC-V can learn
        for parameter in model.teacher.refiner.parameters() if model.teacher.refiner else []:
            parameter.add_(0.1 * torch.randn_like(parameter))
    before = copy.deepcopy(model.state_dict())
    optimizer = OptimWrapper(torch.optim.SGD(model.parameters(), lr=1.0))
    model.train_step(raw_batch(), optimizer)
    changed = {
        name for name, value in model.state_dict().items() if not torch.equal(value, before[name])
    }
    assert changed
    assert all(name.startswith('student.visual.model.transformer.resblocks.') for name in changed)
    assert not any(p.requires_grad for p in model.teacher.parameters())


def test_plain_scd_starts_without_a_gradient():
    """Student and teacher start equal: SCD alone only anchors."""
    model = build('sc-rla', rla=dict(type='CLIPSelfLoss', loss_weight=0.0))
    model(region_batch(model), mode='loss')['loss_scd'].backward()
    gradients = [p.grad for p in model.student.parameters() if p.grad is not None]
    assert gradients
    assert max(g.abs().max() for g in gradients) < 1e-6


def test_a_tower_without_class_token_embeds_crops_through_its_pool():
    """SigLIP's: crops as the library pools them; a step moves the blocks, the pool stays."""
    sizes = dict(embed_dim=16, depth=3, num_heads=2, img_size=32, patch_size=8)
    student = dict(type='RefinerCLIP', model='timm/vit_base_patch16_siglip_224', model_kwargs=sizes)
    model = build('r-sc-rla', student=student)
    batch = region_batch(model)
    with torch.no_grad():
        crops = model.teacher_features(batch)['crops']
        torch.testing.assert_close(crops, model.teacher.visual.model(batch.crops))
    before = copy.deepcopy(model.state_dict())
    model.train_step(raw_batch(), OptimWrapper(torch.optim.SGD(model.parameters(), lr=1.0)))
    changed = {
        name for name, value in model.state_dict().items() if not torch.equal(value, before[name])
    }
    assert changed
    assert all(name.startswith('student.visual.model.blocks.') for name in changed)


def test_rla_compares_rois_with_crop_embeddings():
    model = build('rla')
    batch = region_batch(model)
    loss = model(batch, mode='loss')['loss_rla']
    with torch.no_grad():
        target = model.teacher.image_embedding(batch.crops)
        tokens = torch.nn.functional.normalize(model.student.dense(batch.images), dim=1)
        # Image 1 is square, 4 x 4 tokens: its first box is the top-left 2 x 2.
        region = tokens[1, :, :2, :2].mean((1, 2))
        single = 1 - torch.cosine_similarity(region, target[2], dim=0)
    one = model.rla(region[None], target[2:3])
    torch.testing.assert_close(one, single)
    alone = model._rla_loss(
        model.rla,
        model.student.dense(batch.images),
        {'crops': target},
        batch,
        torch.tensor(6.0),
    )['loss_rla']
    torch.testing.assert_close(alone, loss)


def test_teacher_runs_once_per_image(monkeypatch):
    model = build('r-sc-rla')
    batch, calls = region_batch(model), []
    original = model.teacher.visual.embed
    monkeypatch.setattr(
        model.teacher.visual, 'embed', lambda x, **kw: calls.append(len(x)) or original(x, **kw)
    )
    model(batch, mode='loss')
    assert sorted(calls) == [3, 6]


def test_teacher_equals_student_at_the_start_even_with_random_weights():
    model = build('sc-rla')
    for name, value in model.student.visual.state_dict().items():
        assert torch.equal(value, model.teacher.visual.state_dict()[name])


def test_cached_targets_equal_live_ones(tmp_path):
    model = build('r-sc-rla', cache_dir=str(tmp_path))
    batch = region_batch(model)
    model.cache_dir, cache_dir = None, model.cache_dir
    live = model.teacher_features(batch)
    model.cache_dir = cache_dir
    for _ in range(2):
        stored = model.teacher_features(batch)
        for name, value in live.items():
            cosine = torch.cosine_similarity(stored[name].flatten(), value.flatten(), dim=0)
            assert cosine > 0.9999
    model(batch, mode='loss')['loss_rla'].backward()


def test_bfloat16_autocast_changes_losses_by_its_rounding_only():
    model = build('r-sc-rla')
    batch = region_batch(model)
    exact = model(batch, mode='loss')
    with torch.autocast('cpu', torch.bfloat16):
        rounded = model(region_batch(model), mode='loss')
    for name, value in exact.items():
        assert rounded[name].dtype == torch.float32
        torch.testing.assert_close(rounded[name], value, atol=2e-2, rtol=2e-2)
    assert any(not torch.equal(rounded[name], value) for name, value in exact.items())


def test_cached_crops_are_not_cut_again(tmp_path, monkeypatch):
    model = build('r-sc-rla', cache_dir=str(tmp_path), cache_features=['crops'])
    model(region_batch(model), mode='loss')
    again, cut = region_batch(model), []
    original = again.cut_crops
    again.cut_crops = lambda rows: cut.append(rows) or original(rows)
    model(again, mode='loss')
    assert cut == []
    assert len(list(tmp_path.glob('*/version.json'))) == 1  # maps are computed, not stored
    other = region_batch(model, seed=1)  # other pictures under other names
    mixed = other.select([1])
    model.teacher_features(mixed)
    assert 'crops' not in vars(other)  # the crops of one image do not make those of all


def test_cache_features_are_checked():
    with pytest.raises(ValueError, match="expected names out of \\['map', 'crops'\\]"):
        build('rla', cache_dir='x', cache_features=['trunk'])
    pixels = dict(PREPROCESSOR, pad_size_divisor=8)
    with pytest.raises(ValueError, match='depend on the canvas'):
        build('sc-rla', cache_dir='x', data_preprocessor=pixels)
    build('sc-rla', cache_dir='x', cache_features=['crops'], data_preprocessor=pixels)


def test_methods_share_the_cache_of_crops(tmp_path, monkeypatch):
    """RLA has embedded the crops; R-SC-RLA only has its own target map to compute."""
    first = build('rla', cache_dir=str(tmp_path))
    first.teacher_features(region_batch(first))
    second = build('r-sc-rla', cache_dir=str(tmp_path))
    second.student.load_state_dict(first.student.state_dict())
    second.teacher.visual.load_state_dict(first.teacher.visual.state_dict())
    calls, original = [], second.teacher.visual.embed
    monkeypatch.setattr(
        second.teacher.visual, 'embed', lambda x, **kw: calls.append(len(x)) or original(x, **kw)
    )
    second.teacher_features(region_batch(second))
    assert calls == [3]


def test_another_encoder_as_scd_teacher():
    wide = {**TOWER, 'embed_dim': 20, 'vision_cfg': {**TOWER['vision_cfg'], 'width': 24}}
    model = build('r-sc-rla', refiner=None, scd_teacher=dict(type='RefinerCLIP', model=wide))
    losses = model(region_batch(model), mode='loss')
    losses['loss_scd'].backward()
    assert torch.isfinite(losses['loss_scd'])


TEACHERS = {
    'timm/vit_pe_spatial_tiny_patch16_512': dict(ref_feat_shape=(4, 4)),
    'timm/vit_small_patch16_dinov3': {},
    'timm/vit_base_patch16_radio_v3': {},
    'timm/vit_base_patch14_reg1_tipsv2': {},
}


@pytest.mark.parametrize('name', TEACHERS)
def test_a_foundation_tower_as_scd_teacher(name, monkeypatch):
    """Another patch, width and normalisation: the same pixels, the same grid, a live gradient."""
    patch = 14 if 'patch14' in name else 16
    small = dict(img_size=4 * patch, embed_dim=24, depth=2, num_heads=2, **TEACHERS[name])
    teacher = dict(type='RefinerCLIP', model=name, model_kwargs=small, dense_mode='plain')
    model = build('sc-rla', refiner=None, scd_teacher=teacher)
    visual, seen = model.scd_teacher.visual, []
    embed = visual.embed
    monkeypatch.setattr(visual, 'embed', lambda x: seen.append(x) or embed(x))
    batch = region_batch(model)
    losses = model(batch, mode='loss')
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (visual.image_mean, visual.image_std))
    assert seen[0].shape == (3, 3, SIZE // PATCH * patch, SIZE // PATCH * patch)
    # Black padding below the third picture stays black.
    pixels = seen[0] * std + mean
    assert batch.pictures[0, 3] < 0.95
    torch.testing.assert_close(
        pixels[0, :, -1], torch.zeros_like(pixels[0, :, -1]), atol=1e-4, rtol=0
    )
    losses['loss_scd'].backward()
    trained = list(model.student.visual.blocks.parameters())
    assert sum(float(p.grad.abs().sum()) for p in trained if p.grad is not None) > 0
    assert all(p.grad is None for p in model.scd_teacher.parameters())


def test_text_head_standardises_both_sides(tmp_path):
    head = TextHead(torch.randn(12), torch.rand(12) + 0.5, torch.randn(4, 12), torch.zeros(4))
    head.save(tmp_path / 'head.safetensors')
    model = build('rla', text_head=str(tmp_path / 'head.safetensors'))
    batch = region_batch(model)
    seen = []
    model.rla.register_forward_pre_hook(lambda module, args: seen.append(args))
    model(batch, mode='loss')
    crops = model.teacher.image_embedding(batch.crops)
    torch.testing.assert_close(seen[0][1], head.standardize(crops), atol=1e-5, rtol=1e-4)


def test_region_text_uses_labels():
    model = build('rla', rla=dict(type='RegionTextLoss', text_embeddings=torch.randn(5, 12)))
    data = raw_batch()
    data['labels'] = [torch.tensor([1, 4]), torch.tensor([0, 0]), torch.tensor([2, 1])]
    batch = model.data_preprocessor(data, True)['inputs']
    assert batch.labels.tolist() == [1, 4, 0, 0, 2, 1]
    model(batch, mode='loss')['loss_rla'].backward()
    assert 'crops' not in vars(batch)


def test_select_regions_by_area():
    model = build('rla')
    batch = region_batch(model)  # areas .25 and .5625 in every image
    assert select_regions(batch, (0.2, 0.5), None).tolist() == [0, 2, 4]
    assert select_regions(batch, (0.0, 1.0), None).tolist() == [0, 1, 2, 3, 4, 5]
    assert len(select_regions(batch, (0.0, 1.0), 1)) == 3


def test_modes():
    model = build('rla')
    batch = region_batch(model)
    maps = model(batch, mode='tensor')
    assert maps.shape == (3, 12, 4, 4)
    predicted = model(batch, mode='predict')
    assert [tuple(one['map'].shape) for one in predicted] == [(12, 4, 4)] * 3
    with pytest.raises(ValueError, match='mode'):
        model(batch, mode='train')


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        (dict(method='r-sc'), 'expected one of'),
        (dict(method='rla', rla=None), 'needs rla'),
        (dict(method='sc-rla', scd=None), 'needs scd'),
        (dict(method='r-sc-v', refiner=None), 'needs refiner'),
        (dict(method='r-sc-v', scd=dict(type='SCDLoss', start=0.1)), 'would not learn before'),
    ],
)
def test_bad_configs(kwargs, message):
    with pytest.raises(ValueError, match=message):
        build(**kwargs)


def test_missing_refiner_checkpoint():
    with pytest.raises(FileNotFoundError, match='nowhere'):
        build('r-sc-rla', refiner=dict(num_blocks=2, checkpoint='nowhere/epoch_1.pth'))


def test_images_without_regions_train_nothing():
    model = build('rla')
    data = raw_batch()
    data['boxes'] = [torch.zeros(0, 4)] * 3
    losses = model(model.data_preprocessor(data, True)['inputs'], mode='loss')
    assert losses['loss_rla'].item() == 0
    losses['loss_rla'].backward()


def test_untrained_refiner_warns_and_is_the_encoder(monkeypatch):
    texts = []
    monkeypatch.setattr(region_alignment, 'print_log', lambda text, **kwargs: texts.append(text))
    model = build('r-sc-v')
    assert 'without refiner.checkpoint' in texts[0]
    model(region_batch(model), mode='loss')['loss_scd'].backward()
    gradients = [p.grad for p in model.student.parameters() if p.grad is not None]
    assert max(g.abs().max() for g in gradients) < 1e-6


def test_region_text_is_held_against_student_and_labels():
    rla = dict(type='RegionTextLoss', text_embeddings=torch.randn(5, 12))
    with pytest.raises(ValueError, match='expected 12 columns'):
        build('rla', rla=dict(rla, text_embeddings=torch.randn(5, 7)))
    with pytest.raises(ValueError, match='labels below 5'):
        MODELS.build(rla)(torch.randn(1, 12), torch.tensor([5]))


def test_text_head_needs_crops(tmp_path):
    TextHead(torch.zeros(12), torch.ones(12), torch.eye(12), torch.zeros(12)).save(
        tmp_path / 'head.safetensors'
    )
    with pytest.raises(ValueError, match='CLIPSelfLoss'):
        build('r-sc-v', text_head=str(tmp_path / 'head.safetensors'))
