"""Every key layout loads by itself, and what does not fit is named."""

from __future__ import annotations

import copy
import logging
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
from mmengine.logging import MMLogger
from open_clip.model import CLIP, CustomTextCLIP
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from refineclip.encoders.build import build_clip
from refineclip.encoders.dense_clip import DenseCLIP
from refineclip.encoders.weights.loading import load_submodule, load_weights

State = dict[str, Tensor]
DINOV2 = dict(img_size=56, embed_dim=32, depth=3, num_heads=2)


@pytest.fixture
def log() -> list[str]:
    """Messages of the current mmengine logger."""
    messages: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: messages.append(record.getMessage())  # type: ignore[method-assign]
    logger = MMLogger.get_instance('test_weights')
    logger.addHandler(handler)
    yield messages
    logger.removeHandler(handler)


def random_clip(config: dict[str, Any], text: bool = True) -> DenseCLIP:
    """Build a model whose every parameter is far from its initial value."""
    torch.manual_seed(3)
    clip = build_clip(config, text=text)
    for parameter in clip.parameters():
        parameter.data += 0.2 * torch.randn(parameter.shape)
    return clip.eval()


def assert_same_outputs(ours: DenseCLIP, expected: nn.Module) -> None:
    """Compare image and text embeddings of two models (ours, or open_clip's)."""
    images = torch.randn(2, 3, *ours.visual.native_size)
    theirs = expected.visual(images)
    torch.testing.assert_close(ours.eval().visual(images), theirs, atol=1e-5, rtol=1e-5)
    if ours.text is not None:
        ids = torch.randint(1, 1000, (2, 16))
        theirs = expected.text(ids) if hasattr(expected, 'text') else expected.encode_text(ids)
        torch.testing.assert_close(ours.text(ids), theirs, atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(ours.logit_scale, expected.logit_scale)


def eva_clip_layout(clip: DenseCLIP) -> State:
    """Rename to EVA-CLIP's own keys, by hand."""
    renames = (
        ('visual.model.trunk.', 'visual.'),
        ('attn.norm.', 'attn.inner_attn_ln.'),
        ('mlp.norm.', 'mlp.ffn_ln.'),
        ('mlp.fc1_g.', 'mlp.w1.'),
        ('mlp.fc1_x.', 'mlp.w2.'),
        ('mlp.fc2.', 'mlp.w3.'),
        ('attn.q_proj.bias', 'attn.q_bias'),
        ('attn.v_proj.bias', 'attn.v_bias'),
    )
    state = {}
    for key, tensor in clip.state_dict().items():
        if key.startswith('visual.'):
            for ours, theirs in renames:
                key = key.replace(ours, theirs)
        state[key] = tensor
    for owner in ('visual.rope', 'visual.blocks.0.attn.rope', 'visual.blocks.1.attn.rope'):
        state[f'{owner}.freqs_cos'] = state[f'{owner}.freqs_sin'] = torch.zeros(16, 16)
    return state


@pytest.mark.parametrize(
    'family',
    ['open_clip', 'quick_gelu', 'eva02', 'siglip', 'pe_core', 'mobileclip_b', 'mobileclip_l'],
)
def test_open_clip_layout(family: str, toy_configs: dict[str, Any], tmp_path: Path) -> None:
    library = CustomTextCLIP(**toy_configs[family])
    save_file(library.state_dict(), tmp_path / 'a.safetensors')
    ours = build_clip(toy_configs[family], str(tmp_path / 'a.safetensors'))
    assert_same_outputs(ours, library.eval())


def test_open_clip_layout_with_loose_text(toy_configs: dict[str, Any], tmp_path: Path) -> None:
    library = CLIP(**toy_configs['open_clip'])
    torch.save({'state_dict': library.state_dict()}, tmp_path / 'a.pt')
    ours = build_clip(toy_configs['open_clip'], str(tmp_path / 'a.pt'))
    assert_same_outputs(ours, library.eval())


def test_openai_layout_turns_quick_gelu_on(
    toy_configs: dict[str, Any], tmp_path: Path, log: list[str]
) -> None:
    library = CLIP(**toy_configs['quick_gelu'])
    scalars = dict(input_resolution=64, context_length=16, vocab_size=49408)
    state = {**library.state_dict(), **{k: torch.tensor(v) for k, v in scalars.items()}}
    torch.save(state, tmp_path / 'a.pt')
    ours = build_clip(toy_configs['open_clip'], str(tmp_path / 'a.pt'))
    assert_same_outputs(ours, library.eval())
    assert any('quick GELU is used' in message for message in log)
    assert any('3  left out: scalar of OpenAI files' in message for message in log)


@pytest.mark.parametrize('nested', [False, True])
def test_eva_clip_layout(
    nested: bool, toy_configs: dict[str, Any], tmp_path: Path, log: list[str]
) -> None:
    source = random_clip(toy_configs['eva02'])
    state = eva_clip_layout(source)
    assert 'visual.blocks.0.mlp.w3.weight' in state
    assert 'text.transformer.resblocks.0.attn.in_proj_weight' in state
    if nested:  # as CLIPSelf's and DeCLIP's trainers save
        state = {f'module.{key}': value for key, value in state.items()}
        torch.save({'epoch': 6, 'name': 'x', 'state_dict': state}, tmp_path / 'a.pt')
    else:
        torch.save(state, tmp_path / 'a.pt')
    ours = build_clip(toy_configs['eva02'], str(tmp_path / 'a.pt'))
    assert_same_outputs(ours, source)
    (table,) = [message for message in log if 'EVA-CLIP layout' in message]
    assert 'visual.blocks.* -> visual.model.trunk.blocks.*' in table
    assert 'text.transformer.resblocks.* -> text.transformer.resblocks.*' in table
    assert '6  left out: computed buffer' in table
    assert table.count('\n') < 20


def test_eva_clip_vision_only(toy_configs: dict[str, Any], tmp_path: Path) -> None:
    source = random_clip(toy_configs['eva02'], text=False)
    state = {k: v for k, v in eva_clip_layout(source).items() if k.startswith('visual.')}
    torch.save(state, tmp_path / 'a.pt')
    ours = build_clip(toy_configs['eva02'], str(tmp_path / 'a.pt'), text=False)
    assert_same_outputs(ours, source)
    with pytest.raises(
        ValueError, match=r"'logit_scale', 'text\..*build the model with text=False"
    ):
        build_clip(toy_configs['eva02'], str(tmp_path / 'a.pt'))


def test_eva_file_into_another_tower(toy_configs: dict[str, Any], tmp_path: Path) -> None:
    torch.save(eva_clip_layout(random_clip(toy_configs['eva02'])), tmp_path / 'a.pt')
    with pytest.raises(ValueError, match=r'got VisionTransformer; choose e\.g\. EVA02-B-16'):
        build_clip(toy_configs['open_clip'], str(tmp_path / 'a.pt'))


def test_text_is_left_out_of_a_vision_model(toy_configs: dict[str, Any], tmp_path: Path) -> None:
    source = random_clip(toy_configs['open_clip'])
    torch.save(
        {k.replace('visual.model.', 'visual.'): v for k, v in source.state_dict().items()},
        tmp_path / 'a.pt',
    )
    ours = build_clip(toy_configs['open_clip'], str(tmp_path / 'a.pt'), text=False)
    assert ours.text is None
    torch.testing.assert_close(ours.logit_scale, source.logit_scale)
    assert_same_outputs(ours, source)


@pytest.mark.parametrize('wrap', ['student.{}', '{}', 'backbone.{}', 'encoder.{}'])
def test_our_checkpoints(wrap: str, toy_configs: dict[str, Any], tmp_path: Path) -> None:
    source = random_clip(toy_configs['eva02'], text=False)
    visual = {f'visual.{key}': value for key, value in source.visual.state_dict().items()}
    state = {wrap.format(key): value for key, value in visual.items()}
    state['student.refiner.blocks.0.x'] = state['data_preprocessor.mean'] = torch.ones(3)
    if wrap == 'student.{}':
        state.update({f'teacher.{key}': torch.zeros_like(value) for key, value in visual.items()})
    torch.save(dict(meta={}, state_dict=state), tmp_path / 'a.pth')
    ours = build_clip(toy_configs['eva02'], str(tmp_path / 'a.pth'), text=False)
    assert_same_outputs(ours, source)


def test_two_encoders_without_a_student(toy_configs: dict[str, Any], tmp_path: Path) -> None:
    state = random_clip(toy_configs['open_clip'], text=False).state_dict()
    both = {f'{owner}.{key}': value for owner in ('a', 'b') for key, value in state.items()}
    torch.save(both, tmp_path / 'a.pth')
    with pytest.raises(ValueError, match=r"expected one owner.*'a\.', 'b\.'"):
        build_clip(toy_configs['open_clip'], str(tmp_path / 'a.pth'), text=False)


def test_timm_layout_of_a_real_file(shared_data: Path) -> None:
    file = shared_data / 'weights' / 'vit_small_patch14_dinov2_derivative.fp16.safetensors'
    visual = build_clip('timm/vit_small_patch14_dinov2', str(file)).visual.eval()
    library = timm.create_model('vit_small_patch14_dinov2', num_classes=0).eval()
    library.load_state_dict(load_file(file))
    images = torch.randn(1, 3, 224, 224)
    # timm's rule at 224 px.
    class_slot, old = library.pos_embed.split([1, 37 * 37], dim=1)
    old = old.transpose(1, 2).unflatten(2, (37, 37))
    new = F.interpolate(old, (16, 16), mode='bicubic', antialias=True)
    library.set_input_size((224, 224))
    library.pos_embed = nn.Parameter(torch.cat((class_slot, new.flatten(2).mT), dim=1))
    with torch.no_grad():
        expected = library(images)
        torch.testing.assert_close(visual.image_embedding(images), expected, atol=1e-5, rtol=1e-5)
        assert visual.dense(images).shape == (1, 384, 16, 16)


def test_original_dinov2_names_and_classifier(tmp_path: Path, log: list[str]) -> None:
    library = timm.create_model('vit_small_patch14_reg4_dinov2', num_classes=5, **DINOV2)
    nn.init.normal_(library.pos_embed)
    state = library.state_dict()
    # The original keeps a class slot in the position embedding; timm adds it to the class token.
    state['pos_embed'] = torch.cat((torch.zeros(1, 1, 32), state['pos_embed']), dim=1)
    state['register_tokens'] = state.pop('reg_token')
    state['mask_token'] = torch.zeros(1, 32)
    torch.save(state, tmp_path / 'a.pth')
    ours = build_clip(
        'timm/vit_small_patch14_reg4_dinov2', str(tmp_path / 'a.pth'), model_kwargs=DINOV2
    )
    library.reset_classifier(0)
    images = torch.randn(1, 3, 56, 56)
    torch.testing.assert_close(ours.eval().visual(images), library.eval()(images))
    assert any('2  left out: classifier head.*' in message for message in log)


@pytest.mark.parametrize(
    ('family', 'rename', 'options'),
    [
        ('open_clip', '{}', {}),
        ('eva02', '{}', {}),
        # EVA-CLIP's layout passes through timm's filter, which resizes by a rule of its own.
        ('eva02', 'visual.{}', {}),
        ('siglip', '{}', dict(antialias=True)),
    ],
)
def test_position_embedding_of_another_grid(
    family: str,
    rename: str,
    options: dict[str, Any],
    toy_configs: dict[str, Any],
    tmp_path: Path,
    log: list[str],
) -> None:
    clip = random_clip(toy_configs[family], text=False)
    name = 'positional_embedding' if family == 'open_clip' else 'trunk.pos_embed'
    key = f'visual.model.{name}'
    num_prefix = clip.visual.num_prefix_tokens
    prefix = clip.state_dict()[key].reshape(-1, 32)[:num_prefix]
    grid = torch.randn(25, 32)
    state = copy.deepcopy(clip.state_dict())
    state[key] = (
        torch.cat((prefix, grid)) if family == 'open_clip' else (torch.cat((prefix, grid))[None])
    )
    if rename != '{}':
        tower = 'visual.model.trunk.'
        state = {rename.format(k.removeprefix(tower)): v for k, v in state.items() if tower in k}
    torch.save(state, tmp_path / 'a.pt')
    load_weights(clip, tmp_path / 'a.pt')
    new = clip.state_dict()[key].reshape(-1, 32)
    torch.testing.assert_close(new[:num_prefix], prefix)
    expected = F.interpolate(grid.T.reshape(1, 32, 5, 5), (4, 4), mode='bicubic', **options)
    torch.testing.assert_close(new[num_prefix:], expected.flatten(2)[0].T)
    assert any('resized to the grid 4 x 4' in message for message in log)


def test_what_does_not_fit_is_named(toy_configs: dict[str, Any], tmp_path: Path) -> None:
    clip = random_clip(toy_configs['open_clip'])
    state = clip.state_dict()
    del state['visual.model.ln_post.weight'], state['visual.model.proj']
    state['visual.model.extra'] = torch.ones(1)
    torch.save(state, tmp_path / 'a.pt')
    message = (
        r"2 missing keys \(first: \['visual\.model\.proj', 'visual\.model\.ln_post\.weight'\]\) "
        r"and 1 unexpected keys \(first: \['visual\.model\.extra'\]\)"
    )
    with pytest.raises(ValueError, match=message):
        load_weights(clip, tmp_path / 'a.pt')
    wrong = {**clip.state_dict(), 'visual.model.proj': torch.ones(32, 8)}
    torch.save(wrong, tmp_path / 'b.pt')
    with pytest.raises(ValueError, match=r'visual.model.proj with shape \(32, 24\), got \(32, 8\)'):
        load_weights(clip, tmp_path / 'b.pt')
    torch.save({'layer1.conv.weight': torch.ones(1)}, tmp_path / 'c.pt')
    with pytest.raises(ValueError, match=r"key layouts \['refineclip', 'OpenAI'.*layer1.conv"):
        load_weights(clip, tmp_path / 'c.pt')


def test_failed_load_changes_nothing(toy_configs: dict[str, Any], tmp_path: Path) -> None:
    clip = random_clip(toy_configs['open_clip'])
    before = copy.deepcopy(clip.state_dict())
    state = {key: torch.zeros_like(value) for key, value in before.items()}
    del state['visual.model.proj']
    torch.save(state, tmp_path / 'a.pt')
    with pytest.raises(ValueError, match='1 missing'):
        load_weights(clip, tmp_path / 'a.pt')
    assert all(torch.equal(value, before[key]) for key, value in clip.state_dict().items())


def test_load_submodule(tmp_path: Path) -> None:
    part = nn.Linear(2, 3)
    state = {f'refiner.{key}': value for key, value in part.state_dict().items()}
    nested = {f'student.{key}': value for key, value in state.items()}
    other = {f'teacher.{key}': torch.zeros_like(value) for key, value in state.items()}
    for content in (state, {**other, **nested}):
        torch.save({'state_dict': {**content, 'x.weight': torch.ones(1)}}, tmp_path / 'a.pth')
        target = nn.Linear(2, 3)
        load_submodule(target, tmp_path / 'a.pth', 'refiner.')
        assert torch.equal(target.weight, part.weight)
    with pytest.raises(ValueError, match=r"expected keys with 'missing\.'"):
        load_submodule(nn.Linear(2, 3), tmp_path / 'a.pth', 'missing.')
    torch.save({'refiner.bias': part.bias.data}, tmp_path / 'b.pth')
    with pytest.raises(ValueError, match=r"1 missing keys \(first: \['weight'\]\)"):
        load_submodule(nn.Linear(2, 3), tmp_path / 'b.pth', 'refiner.')


def test_missing_temperature_is_named(toy_configs: dict[str, Any], tmp_path: Path) -> None:
    """Both towers are there: `text=False` must not be the only advice."""
    clip = random_clip(toy_configs['open_clip'])
    state = {key: value for key, value in clip.state_dict().items() if key != 'logit_scale'}
    torch.save(state, tmp_path / 'a.pt')
    with pytest.raises(ValueError, match=r'not the temperature of the logits: add logit_scale'):
        build_clip(toy_configs['open_clip'], str(tmp_path / 'a.pt'))
    assert build_clip(toy_configs['open_clip'], str(tmp_path / 'a.pt'), text=False).text is None
    torch.save({**state, 'logit_scale': 4.5}, tmp_path / 'b.pt')
    assert build_clip(toy_configs['open_clip'], str(tmp_path / 'b.pt')).logit_scale.item() == 4.5


def test_grid_that_is_not_square(toy_configs: dict[str, Any], tmp_path: Path) -> None:
    clip = random_clip(toy_configs['open_clip'])
    state = clip.state_dict()
    state['visual.model.positional_embedding'] = torch.ones(1 + 2 * 4, 32)
    torch.save(state, tmp_path / 'a.pt')
    with pytest.raises(ValueError, match=r'of 17 tokens, or of a square grid.*got 9 tokens'):
        load_weights(clip, tmp_path / 'a.pt')


def test_torchscript_of_openai(toy_configs: dict[str, Any], tmp_path: Path) -> None:
    """OpenAI's own files are archives; their scalars say that they are OpenAI's."""

    class Archive(CLIP):
        def forward(self, image: Tensor) -> Tensor:
            return image

    library = Archive(**toy_configs['quick_gelu']).eval()
    for name in ('input_resolution', 'context_length', 'vocab_size'):
        vars(library).pop(name, None)
        library.register_buffer(name, torch.tensor(1))
    torch.jit.trace(library, torch.ones(1)).save(str(tmp_path / 'ViT.pt'))
    ours = build_clip(toy_configs['open_clip'], str(tmp_path / 'ViT.pt'))
    images = torch.randn(2, 3, *ours.visual.native_size)
    torch.testing.assert_close(ours.eval().visual(images), library.visual(images))
