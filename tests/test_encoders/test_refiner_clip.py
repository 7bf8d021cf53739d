"""The registered backbone: maps, taps, Refiner, weights from every file a user may hold."""

from __future__ import annotations

import copy

import pytest
import torch
from mmengine.registry import MODELS
from torch.nn import functional as F

from refineclip.encoders import RefinerCLIP
from refineclip.encoders.towers import dense_vit

TOWER = dict(
    embed_dim=12,
    vision_cfg=dict(image_size=32, layers=4, width=16, head_width=8, patch_size=8),
    text_cfg=dict(context_length=8, vocab_size=49408, width=16, heads=2, layers=1),
)


@pytest.fixture
def images():
    return torch.randn(2, 3, 32, 48)


def tokens_after(model, images, block):
    tokens, grid = model.visual.embed(images)
    return model.visual.to_map(model.visual.run(tokens, grid, 0, block + 1), grid)


def test_one_embedding_map_by_default(images):
    model = RefinerCLIP(TOWER)
    (dense,) = model(images)
    assert dense.shape == (2, 12, 4, 6)
    torch.testing.assert_close(dense, model.visual.dense(images, 'value'))


def test_taps_are_the_blocks_and_the_last_is_dense(images):
    model = RefinerCLIP(TOWER, out_indices=(0, 2, 3))
    first, third, last = model(images)
    torch.testing.assert_close(first, tokens_after(model, images, 0))
    torch.testing.assert_close(third, tokens_after(model, images, 2))
    projected = model.visual.project(last.flatten(2).transpose(1, 2)).transpose(1, 2)
    torch.testing.assert_close(projected.unflatten(2, (4, 6)), model.dense(images))


@pytest.mark.parametrize('input', ['block', 'output'])
def test_refined_tap_and_taps_beyond_the_fork(images, input):
    """Taps above N - K are the encoder's own; only the last one is the Refiner's."""
    model = RefinerCLIP(TOWER, refiner=dict(num_blocks=3, input=input), out_indices=(1, 2, 3))
    with torch.no_grad():
        for parameter in model.refiner.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    second, third, last = model(images)
    torch.testing.assert_close(second, tokens_after(model, images, 1))
    torch.testing.assert_close(third, tokens_after(model, images, 2))
    plain = RefinerCLIP(TOWER, out_indices=(3,))
    plain.visual.load_state_dict(model.visual.state_dict())
    assert (last - plain(images)[0]).abs().max() > 1e-3


def test_strides_and_channels(images):
    model = RefinerCLIP(
        TOWER, out_indices=(0, 1, 2, 3), out_strides=(4, 8, 16, 32), out_channels=(3, 4, 5, 6)
    )
    assert [tuple(one.shape[1:]) for one in model(images)] == [
        (3, 8, 12),
        (4, 4, 6),
        (5, 2, 3),
        (6, 1, 2),
    ]


def test_frozen_and_trainable(images):
    frozen = RefinerCLIP(TOWER).train()
    assert not frozen.visual.training
    assert not frozen(images)[0].requires_grad
    student = RefinerCLIP(TOWER, frozen=False, trainable_blocks=2).train()
    trainable = {name for name, p in student.named_parameters() if p.requires_grad}
    assert {name.split('resblocks.')[1][0] for name in trainable} == {'2', '3'}
    student(images)[0].sum().backward()


def test_checkpointing_changes_memory_not_numbers(images):
    student = RefinerCLIP(TOWER, frozen=False)
    student(images)[0].square().mean().backward()
    expected = [p.grad.clone() for p in student.parameters() if p.grad is not None]
    student.zero_grad()
    student.visual.with_cp = True
    student(images)[0].square().mean().backward()
    for gradient, p in zip(
        expected, (p for p in student.parameters() if p.grad is not None), strict=True
    ):
        torch.testing.assert_close(p.grad, gradient)


@pytest.mark.parametrize('owner', ['', 'student.', 'backbone.'])
def test_init_cfg_loads_the_backbone_out_of_whatever_owns_it(tmp_path, images, owner):
    trained = RefinerCLIP(TOWER)
    state = {f'{owner}{name}': value for name, value in trained.state_dict().items()}
    if owner == 'student.':
        other = RefinerCLIP(TOWER).state_dict()
        state |= {f'teacher.{name}': value for name, value in other.items()}
    torch.save(dict(state_dict=state, meta={}), tmp_path / 'file.pth')
    model = MODELS.build(
        dict(
            type='RefinerCLIP',
            model=TOWER,
            init_cfg=dict(type='Pretrained', checkpoint=str(tmp_path / 'file.pth')),
        )
    )
    model.init_weights()
    torch.testing.assert_close(model.dense(images), trained.dense(images))


def test_a_file_that_does_not_fit_is_an_error(tmp_path):
    state = RefinerCLIP(TOWER).state_dict()
    state.pop('visual.model.class_embedding')
    torch.save(dict(state_dict=state), tmp_path / 'file.pth')
    init_cfg = dict(type='Pretrained', checkpoint=str(tmp_path / 'file.pth'))
    with pytest.raises(ValueError, match='class_embedding'):
        RefinerCLIP(TOWER, init_cfg=init_cfg).init_weights()
    with pytest.raises(FileNotFoundError, match='nowhere'):
        RefinerCLIP(
            TOWER, init_cfg=dict(type='Pretrained', checkpoint='nowhere.pth')
        ).init_weights()


def test_a_library_s_file_goes_into_pretrained(tmp_path, images):
    trained = RefinerCLIP(TOWER)
    state = {key.replace('.model.', '.'): value for key, value in trained.state_dict().items()}
    assert 'visual.conv1.weight' in state
    torch.save(state, tmp_path / 'file.pt')
    path = str(tmp_path / 'file.pt')
    model = RefinerCLIP(TOWER, init_cfg=dict(type='Pretrained', checkpoint=path))
    with pytest.raises(ValueError, match=r'stage 2 saves \(visual\.model.*go into pretrained'):
        model.init_weights()
    model = RefinerCLIP(TOWER, pretrained=path)
    torch.testing.assert_close(model.dense(images), trained.dense(images))


@pytest.mark.parametrize(
    ('kwargs', 'message'),
    [
        (dict(dense_mode='nearest'), 'value'),
        (dict(out_indices=(2, 1)), 'out_indices'),
        (dict(out_indices=(4,)), 'out_indices'),
        (dict(refiner=dict(input='trunk')), 'input'),
    ],
)
def test_bad_arguments(kwargs, message):
    with pytest.raises(ValueError, match=message):
        RefinerCLIP(TOWER, **kwargs)


def test_image_embedding_is_the_library_s(images):
    model = RefinerCLIP(TOWER)
    square = images[..., :32]
    torch.testing.assert_close(
        F.normalize(model.image_embedding(square), dim=-1),
        F.normalize(model.visual.model(square), dim=-1),
        atol=1e-5,
        rtol=1e-4,
    )


def save(path, model, owner=''):
    state = {f'{owner}{name}': value for name, value in model.state_dict().items()}
    torch.save(dict(state_dict=state), path)
    return dict(type='Pretrained', checkpoint=str(path))


def test_init_cfg_also_fills_refiner_and_adapters(tmp_path, images):
    options = dict(refiner=dict(num_blocks=2), out_indices=(3,), out_channels=(5,))
    trained = RefinerCLIP(TOWER, **options)
    with torch.no_grad():
        for parameter in trained.refiner.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    init_cfg = save(tmp_path / 'detector.pth', trained, 'backbone.')
    for extra in ({}, dict(prefix='backbone.')):
        model = RefinerCLIP(TOWER, **options, init_cfg={**init_cfg, **extra})
        model.init_weights()
        torch.testing.assert_close(model(images), trained(images))


def test_an_untrained_refiner_follows_the_loaded_encoder(tmp_path, images):
    init_cfg = save(tmp_path / 'refined.pth', RefinerCLIP(TOWER))
    model = RefinerCLIP(TOWER, refiner=dict(num_blocks=2), init_cfg=init_cfg)
    model.init_weights()
    plain = RefinerCLIP(TOWER, init_cfg=init_cfg)
    plain.init_weights()
    torch.testing.assert_close(model.dense(images), plain.dense(images))


def test_frozen_refiner_stays_in_eval_and_a_trained_one_does_not():
    model = RefinerCLIP(TOWER, refiner=dict(num_blocks=2)).train()
    assert not model.refiner.training
    model.refiner.requires_grad_(True)
    assert model.train().refiner.training
    assert not model.visual.training


@pytest.mark.parametrize('with_cp', [False, True])
@pytest.mark.parametrize(
    'options',
    [dict(attention_backend='math'), dict(compile_blocks=dict(backend='eager'))],
    ids=['attention', 'compile'],
)
def test_kernels_change_no_numbers(images, options, with_cp):
    settings = dict(dense_mode='query-query', refiner=dict(num_blocks=2), frozen=False)
    plain = RefinerCLIP(TOWER, **settings)
    fast = RefinerCLIP(TOWER, **settings, **options, with_cp=with_cp)
    fast.load_state_dict(plain.state_dict())  # compiled blocks keep their names
    for model in (plain, fast):
        model.refiner.requires_grad_(True)
        model.dense(images).square().mean().backward()
    torch.testing.assert_close(fast.dense(images), plain.dense(images), atol=1e-5, rtol=1e-4)
    for (name, a), b in zip(plain.named_parameters(), fast.parameters(), strict=True):
        if a.grad is not None:
            torch.testing.assert_close(b.grad, a.grad, atol=1e-5, rtol=1e-3, msg=name)


def test_every_block_is_compiled_and_copies_train_on(images):
    calls = []

    def backend(graph, example_inputs):
        calls.append(1)
        return graph.forward

    model = RefinerCLIP(
        TOWER, refiner=dict(num_blocks=2), compile_blocks=dict(backend=backend, dynamic=False)
    )
    model.dense(images)
    # Trunk of two blocks, Refiner of two whose last one runs in a dense mode, piece by piece.
    assert len(calls) >= 1
    model.image_embedding(images)
    torch.testing.assert_close(copy.deepcopy(model).dense(images), model.dense(images))


def test_attention_backend_reaches_the_blocks(images, monkeypatch):
    seen = []
    original = F.scaled_dot_product_attention

    def spy(*args, **kwargs):
        seen.append(
            (torch.backends.cuda.math_sdp_enabled(), torch.backends.cuda.flash_sdp_enabled())
        )
        return original(*args, **kwargs)

    monkeypatch.setattr(F, 'scaled_dot_product_attention', spy)
    # Frozen, so nn.MultiheadAttention would rather take its own inference path, on no backend.
    RefinerCLIP(TOWER, attention_backend='math', dense_mode='query-query').dense(images)
    assert seen == [(True, False)] * 4
    with pytest.raises(ValueError, match=r"expected one of \['cudnn', 'efficient'"):
        RefinerCLIP(TOWER, attention_backend='fast')


@pytest.mark.parametrize(('name', 'half'), [('flash', True), ('flash', False), ('math', False)])
def test_attention_backend_is_not_forced_on_types_it_lacks(images, monkeypatch, name, half):
    forced = []

    def record(backend):
        forced.append(backend)
        return lambda function: function

    monkeypatch.setattr(dense_vit, 'sdpa_kernel', record)
    model = RefinerCLIP(TOWER, attention_backend=name)
    with torch.autocast('cpu', torch.bfloat16, enabled=half):
        model.dense(images)
    assert len(forced) == (0 if name == 'flash' and not half else 4)


def test_attention_backend_ignored_in_training_warns(images, monkeypatch):
    said = []
    monkeypatch.setattr(dense_vit, 'print_log', lambda text, **_: said.append(text))
    model = RefinerCLIP(TOWER, attention_backend='flash', frozen=False)
    model.eval().dense(images)
    assert said == []
    model.train().dense(images)
    [warning] = said
    assert 'this training runs in float32' in warning


def test_no_image_at_all(monkeypatch):
    """A batch without regions: no kernel sees it, since torch 2.4's flash attention refuses."""
    monkeypatch.setattr(F, 'scaled_dot_product_attention', None)
    model = RefinerCLIP(TOWER)
    assert model.image_embedding(torch.zeros(0, 3, 32, 32)).shape == (0, 12)
    assert model.dense(torch.zeros(0, 3, 32, 32)).shape == (0, 12, 4, 4)
