"""What timm's own conversions would drop is used, named or refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import Tensor, nn

from refineclip.encoders.build import build_clip
from refineclip.encoders.weights.loading import load_weights
from refineclip.encoders.weights.renamed_state import drop_computed
from refineclip.encoders.weights.timm_layout import rename_timm

State = dict[str, Tensor]
SMALL = dict(img_size=64, embed_dim=32, depth=2, num_heads=2)
DINOV3, DINOV3_QKVB = 'vit_small_patch16_dinov3', 'vit_small_patch16_dinov3_qkvb'


def dinov3(bias: float = 0.0) -> nn.Module:
    """A model of the variant with biases, of which those of queries and values are drawn."""
    model = timm.create_model(DINOV3_QKVB, num_classes=0, **SMALL).eval()
    for block in model.blocks:
        for parameter in (block.attn.q_bias, block.attn.v_bias):
            nn.init.normal_(parameter, std=bias) if bias else nn.init.zeros_(parameter)
        nn.init.ones_(block.gamma_1)
    return model


def publisher_layout(model: nn.Module, mask_keys: bool = True) -> State:
    """Name the weights as DINOv3's own files do."""
    state: State = {}
    for key, value in model.state_dict().items():
        if not key.endswith(('q_bias', 'v_bias')):
            key = key.replace('reg_token', 'storage_tokens')
            key = key.replace('gamma_1', 'ls1.gamma').replace('gamma_2', 'ls2.gamma')
            state[key] = value.clone()
    for index, block in enumerate(model.blocks):
        query, value = block.attn.q_bias.data, block.attn.v_bias.data
        owner = f'blocks.{index}.attn.qkv'
        state[f'{owner}.bias'] = torch.cat((query, torch.ones(32), value))
        mask = torch.ones(3, 32)
        mask[1] = 0
        if mask_keys:
            state[f'{owner}.bias_mask'] = mask.flatten()
        else:
            state[f'{owner}.bias'][32:64] = 0
    state['mask_token'] = torch.ones(1, 32)
    state['rope_embed.periods'] = torch.rand(4)
    return state


def load(name: str, state: State, folder: Path, **kwargs: Any) -> nn.Module:
    torch.save(state, folder / 'a.pth')
    model = build_clip(f'timm/{name}', str(folder / 'a.pth'), model_kwargs=dict(SMALL, **kwargs))
    return model.visual.eval()


@pytest.mark.parametrize('mask_keys', [True, False])
def test_dinov3_biases_are_used(mask_keys: bool, tmp_path: Path) -> None:
    library = dinov3(bias=0.5)
    ours = load(DINOV3_QKVB, publisher_layout(library, mask_keys), tmp_path)
    images = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(ours(images), library(images), atol=1e-5, rtol=1e-5)


def test_dinov3_biases_without_a_place_are_refused(tmp_path: Path) -> None:
    state = publisher_layout(dinov3(bias=0.5))
    with pytest.raises(ValueError, match=rf"not zero and would be dropped.*'timm/{DINOV3_QKVB}'"):
        load(DINOV3, state, tmp_path)


def test_fused_biases_of_a_tower_that_has_them(tmp_path: Path) -> None:
    name = 'vit_pe_spatial_tiny_patch16_512'
    # On its native grid, where timm's RoPE counts as the published code does on every grid.
    small = {**SMALL, 'ref_feat_shape': (4, 4)}
    library = timm.create_model(name, num_classes=0, **small).eval()
    for parameter in library.parameters():
        nn.init.normal_(parameter, std=0.3)
    assert 'blocks.0.attn.qkv.bias' in library.state_dict()
    images = torch.randn(1, 3, 64, 64)
    ours = load(name, library.state_dict(), tmp_path, ref_feat_shape=(4, 4))
    torch.testing.assert_close(ours(images), library(images), atol=1e-5, rtol=1e-5)


def test_dinov3_zero_biases_fit_both(tmp_path: Path) -> None:
    library = dinov3()
    images = torch.randn(1, 3, 64, 64)
    for name in (DINOV3, DINOV3_QKVB):
        ours = load(name, publisher_layout(library), tmp_path)
        torch.testing.assert_close(ours(images), library(images), atol=1e-5, rtol=1e-5)


def test_dinov3_key_biases_are_refused(tmp_path: Path) -> None:
    state = publisher_layout(dinov3(bias=0.5), mask_keys=False)
    state['blocks.1.attn.qkv.bias'][32:64] = 0.1
    with pytest.raises(ValueError, match=r'blocks\.1\.attn\.k_bias.*no bias to the keys'):
        load(DINOV3_QKVB, state, tmp_path)


def test_what_is_left_out_is_counted() -> None:
    visual = build_clip(f'timm/{DINOV3}', model_kwargs=SMALL).visual
    renamed = rename_timm(drop_computed(publisher_layout(dinov3())).state, visual)
    assert renamed.ignored == {
        'blocks.*, all zero': 4,  # key biases and whole biases of two blocks
        'mask_token: mask token of the pre-training': 1,
    }


def test_a_tensor_that_timm_drops_is_refused() -> None:
    visual = build_clip('timm/vit_tiny_patch16_224', model_kwargs=SMALL).visual
    state = {**visual.model.state_dict(), 'pre_logits.fc.weight': torch.ones(2, 2)}
    with pytest.raises(ValueError, match=r'pre_logits\.fc\.weight.*vit_tiny_patch16_224'):
        rename_timm(state, visual)
    state['pre_logits.fc.weight'].zero_()
    assert rename_timm(state, visual).ignored == {'pre_logits.fc.*, all zero': 1}


def test_key_bias_buffer_of_other_values_is_refused(tmp_path: Path) -> None:
    visual = build_clip(f'timm/{DINOV3_QKVB}', model_kwargs=SMALL)
    state = {**visual.visual.model.state_dict(), 'blocks.0.attn.k_bias': torch.ones(32)}
    torch.save(state, tmp_path / 'a.pth')
    with pytest.raises(ValueError, match=r'blocks\.0\.attn\.k_bias.*not zero'):
        load_weights(visual, tmp_path / 'a.pth')
    state['blocks.0.attn.k_bias'].zero_()
    torch.save(state, tmp_path / 'a.pth')
    load_weights(visual, tmp_path / 'a.pth')


@pytest.mark.parametrize('file_has', [True, False])
def test_registers_on_one_side_only(file_has: bool, tmp_path: Path) -> None:
    names = ['vit_small_patch14_reg4_dinov2', 'vit_small_patch14_dinov2']
    sizes = dict(SMALL, img_size=56)
    file, model = names if file_has else names[::-1]
    state = timm.create_model(file, num_classes=0, **sizes).state_dict()
    with pytest.raises(ValueError, match=rf'register tokens in both or neither.*{model}'):
        load(model, state, tmp_path, img_size=56)


def test_grid_that_is_not_square(tmp_path: Path) -> None:
    """A file of 2 x 4 tokens: fits a model of that size, and cannot be resized to another."""
    name = 'vit_tiny_patch16_224'
    state = timm.create_model(name, num_classes=0, **dict(SMALL, img_size=(32, 64))).state_dict()
    images = torch.randn(1, 3, 32, 64)
    assert load(name, state, tmp_path, img_size=(32, 64))(images).shape == (1, 32)
    with pytest.raises(ValueError, match='got 9 tokens, of a grid whose height and width'):
        load(name, state, tmp_path)


def test_file_of_another_width(tmp_path: Path) -> None:
    wide = timm.create_model('vit_tiny_patch16_224', num_classes=0, **dict(SMALL, embed_dim=64))
    with pytest.raises(ValueError, match='another model size'):
        load('vit_tiny_patch16_224', wide.state_dict(), tmp_path)


def radio_layout(library: nn.Module) -> State:
    """Name the weights as C-RADIO's model.safetensors does."""
    state: State = {}
    for key, value in library.state_dict().items():
        if key.startswith('blocks.'):
            state[key] = value
    patch = library.patch_embed.proj.weight
    state['patch_generator.embedder.weight'] = patch.flatten(1)
    state['patch_generator.pos_embed'] = library.pos_embed
    tokens = torch.cat((library.cls_token, library.reg_token), dim=1)
    state['patch_generator.cls_token.token'] = tokens[0]
    state = {f'radio_model.model.{key}': value.detach().clone() for key, value in state.items()}
    state['radio_model.input_conditioner.norm_mean'] = torch.full((3, 1, 1), 0.5)
    state['radio_model.summary_idxs'] = torch.arange(3)
    return state


def test_radio_file(tmp_path: Path) -> None:
    """The published grid is larger than timm's; it is resized as RADIO does for an image."""
    name = 'vit_base_patch16_radio_v3'
    library = timm.create_model(name, num_classes=0, **SMALL).eval()
    nn.init.zeros_(library.patch_embed.proj.bias)  # RADIO has none
    ours = load(name, radio_layout(library), tmp_path)
    images = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(ours(images), library(images), atol=1e-5, rtol=1e-5)
    half = load(name, radio_layout(library), tmp_path, img_size=32)
    grid = library.pos_embed.transpose(1, 2).unflatten(2, (4, 4))
    resized = nn.functional.interpolate(grid, (2, 2), mode='bilinear', align_corners=True)
    torch.testing.assert_close(half.trunk.pos_embed, resized.flatten(2).transpose(1, 2))


def test_file_of_torch_hub_is_named(tmp_path: Path) -> None:
    state = {'base_model.blocks.0.norm1.weight': torch.ones(32)}
    with pytest.raises(ValueError, match=r'radio_model\.\*\), got.*torch\.hub'):
        load('vit_base_patch16_radio_v3', state, tmp_path)


@pytest.mark.parametrize('owner', ['visual.', ''])
def test_layers_of_another_library_are_named(owner: str, tmp_path: Path) -> None:
    """Perception Encoder's own files, with text and without, and a timm tower for a native ViT."""
    state = {f'{owner}conv1.weight': torch.ones(32, 3, 16, 16)}
    state[f'{owner}transformer.resblocks.0.ln_1.weight'] = torch.ones(32)
    with pytest.raises(ValueError, match=rf"timm, got {owner}conv1\.\*.*'meta' of open_clip"):
        load('vit_pe_spatial_tiny_patch16_512', state, tmp_path)
    torch.save({f'{owner}trunk.blocks.0.norm1.weight': torch.ones(32)}, tmp_path / 'a.pth')
    kwargs = dict(vision_cfg=dict(width=32, layers=2, head_width=16))
    with pytest.raises(ValueError, match=rf'got {owner}trunk\.\*, a tower of timm'):
        build_clip('ViT-B-16', str(tmp_path / 'a.pth'), text=False, model_kwargs=kwargs)
