"""Stage 1: what trains, what stays, and what is compared."""

from __future__ import annotations

import pytest
import torch
from mmengine.registry import MODELS
from torch.nn import functional as F

import refineclip.distill  # noqa: F401
from refineclip.distill import region_preprocessor
from refineclip.distill.distillation_model import NonFiniteLossError, draws_of_iteration

from .toys import PREPROCESSOR, STUDENT, TOWER, raw_batch, region_batch


def build(**kwargs):
    encoder = dict(**STUDENT, refiner=dict(num_blocks=2), **kwargs.pop('encoder', {}))
    config = dict(
        type='RefinerTraining',
        encoder=encoder,
        loss=dict(type='RefineLoss', roi_size=2),
        data_preprocessor=PREPROCESSOR,
    )
    return MODELS.build({**config, **kwargs}).train()


def test_only_the_refiner_learns():
    model = build()
    trainable = {name for name, p in model.named_parameters() if p.requires_grad}
    assert trainable
    assert all(name.startswith('encoder.refiner.blocks.') for name in trainable)
    model(region_batch(model), mode='loss')['loss_refine'].backward()
    assert all(p.grad is None for p in model.encoder.visual.parameters())
    assert any(
        p.grad.abs().sum() > 0 for p in model.encoder.refiner.parameters() if p.grad is not None
    )


def test_refined_map_starts_as_the_plain_map():
    model = build()
    images = region_batch(model).images
    trunk, grid = model.encoder.trunk(images)
    plain = model.encoder.embedding_map(model.encoder.plain_tokens(trunk, grid), grid)
    torch.testing.assert_close(model.dense(images), plain)


def test_control_target_is_the_frozen_map_itself():
    """Without close-ups an untrained Refiner already agrees with its target."""
    model = build(target='image', loss=dict(type='RefineLoss', kind='cosine', roi_size=2))
    losses = model(region_batch(model), mode='loss')
    assert losses['loss_refine'].item() == pytest.approx(0, abs=1e-6)
    assert losses['region_crop_cosine'].item() == pytest.approx(1, abs=1e-6)


def test_target_is_the_frozen_map_of_the_crop():
    model = build()
    batch = region_batch(model)
    target = model.frozen_features(batch)['target']
    with torch.no_grad():
        crop_map = F.normalize(model.encoder.visual.dense(batch.crops, 'value'), dim=1)
    # The first region of the square image (index 2) fills its crop: plain 2 x 2 pooling of 4 x 4.
    expected = F.avg_pool2d(crop_map[2:3], 2).flatten(2).transpose(1, 2)
    torch.testing.assert_close(target[2:3], expected, atol=1e-5, rtol=0)


def test_trunk_runs_once_and_crops_once(monkeypatch):
    model = build()
    batch, calls = region_batch(model), []
    original = model.encoder.visual.embed
    monkeypatch.setattr(
        model.encoder.visual, 'embed', lambda x: calls.append(len(x)) or original(x)
    )
    model(batch, mode='loss')
    assert calls == [3, 6]


def test_initial_cosine_guard():
    model = build(min_initial_cosine=1.1)
    with pytest.raises(ValueError, match='check box coordinates'):
        model(region_batch(model), mode='loss')
    resumed = build(min_initial_cosine=1.1)
    resumed.load_state_dict({**resumed.state_dict(), 'initial_cosine': torch.tensor(0.8)})
    resumed(region_batch(resumed), mode='loss')


def test_cached_features_equal_live_ones(tmp_path):
    loss = dict(type='RefineLoss', kind='cosine', roi_size=2)
    model, plain = build(cache_dir=str(tmp_path), loss=loss), build(loss=loss)
    plain.load_state_dict(model.state_dict())
    batch = region_batch(model)
    live = plain.frozen_features(batch)
    first, second = (model.frozen_features(batch) for _ in range(2))
    for name, value in live.items():
        torch.testing.assert_close(first[name], value, atol=5e-3, rtol=1e-2)
        torch.testing.assert_close(first[name], second[name], atol=0, rtol=0)
    model(batch, mode='loss')['loss_refine'].backward()


def test_the_trunk_of_an_image_is_cached_whatever_its_regions(tmp_path, monkeypatch):
    model = build(cache_dir=str(tmp_path))
    model.frozen_features(region_batch(model))
    data, calls = raw_batch(), []
    data['boxes'] = [boxes * 0.9 for boxes in data['boxes']]
    original = model.encoder.visual.embed
    monkeypatch.setattr(
        model.encoder.visual, 'embed', lambda x: calls.append(len(x)) or original(x)
    )
    model.frozen_features(model.data_preprocessor(data, True)['inputs'])
    assert calls == [6]  # the crops of the new boxes


def test_random_draws_depend_on_seed_and_iteration_only():
    torch.manual_seed(5)
    with draws_of_iteration():
        first = torch.rand(3)
    torch.rand(7)  # whatever happens in between
    with draws_of_iteration():
        second = torch.rand(3)
    torch.manual_seed(6)
    with draws_of_iteration():
        other = torch.rand(3)
    torch.testing.assert_close(first, second, atol=0, rtol=0)
    assert not torch.equal(first, other)


def test_max_regions_per_image():
    model = build(max_regions_per_image=1)
    seen = []
    model.refine_loss.register_forward_pre_hook(lambda module, args: seen.append(args[2].tolist()))
    model(region_batch(model), mode='loss')
    assert seen == [[0, 1, 2]]


def test_empty_batch_trains_nothing():
    model = build()
    data = raw_batch(0)
    losses = model(model.data_preprocessor(data, True)['inputs'], mode='loss')
    sum(losses.values()).backward()
    assert all((p.grad == 0).all() for p in model.encoder.refiner.parameters())


def test_non_finite_loss_names_parts_and_images():
    model = build()
    with torch.no_grad():
        next(model.encoder.refiner.parameters()).fill_(float('nan'))
    with pytest.raises(NonFiniteLossError, match=r'loss_refine = nan.*iteration.*image_0_0.png'):
        model(region_batch(model), mode='loss')


@pytest.mark.parametrize('input', ['block', 'output'])
def test_refiner_inputs(input):
    model = MODELS.build(dict(**STUDENT, refiner=dict(num_blocks=2, input=input)))
    images = torch.randn(1, 3, 32, 40)
    plain = MODELS.build(STUDENT)
    plain.visual.load_state_dict(model.visual.state_dict())
    same = torch.allclose(model.dense(images), plain.dense(images), atol=1e-5)
    assert same == (input == 'block')


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [(dict(target='patch'), 'target'), (dict(encoder_refiner=None), 'refiner')],
)
def test_bad_configs(kwargs, message):
    if 'encoder_refiner' in kwargs:
        kwargs = dict(encoder=STUDENT)
        config = dict(type='RefinerTraining', loss=dict(type='RefineLoss'), **kwargs)
        with pytest.raises(ValueError, match=message):
            MODELS.build(config)
    else:
        with pytest.raises(ValueError, match=message):
            build(**kwargs)


def test_too_many_blocks():
    with pytest.raises(ValueError, match='expected 1 to 3'):
        MODELS.build(dict(type='RefinerCLIP', model=TOWER, refiner=dict(num_blocks=4)))


def test_no_region_of_the_asked_area():
    """Images without a usable region train nothing, and are no error."""
    model = build(area_range=(0.9, 1.0))
    losses = model(region_batch(model), mode='loss')
    assert list(losses) == ['loss_refine']
    losses['loss_refine'].backward()
    assert losses['loss_refine'].item() == 0


def test_size_that_is_no_multiple_of_the_patch_fails_at_build():
    with pytest.raises(ValueError, match=r'crop_size: expected multiples of the patch size 8'):
        build(data_preprocessor={**PREPROCESSOR, 'crop_size': 30})


def test_other_normalisation_warns(monkeypatch):
    texts = []
    monkeypatch.setattr(region_preprocessor, 'print_log', lambda text, **kwargs: texts.append(text))
    build()
    assert not texts
    build(data_preprocessor={**PREPROCESSOR, 'std': [57.0, 57.0, 57.0]})
    assert 'std' in texts[0]
