"""Files in the key names of transformers; names fabricated from its documented layout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from open_clip.model import CustomTextCLIP
from safetensors.torch import save_file
from torch import Tensor, nn

from refineclip.encoders.build import build_clip
from refineclip.encoders.weights.transformers_layout import fuse_qkv, is_quick_gelu

State = dict[str, Tensor]
DINO = dict(img_size=56, embed_dim=32, depth=2, num_heads=2)


def split(state: State, owner: str, fused: str, names: tuple[str, str, str]) -> None:
    """Replace a fused projection by three, in place."""
    for kind, join in (('weight', '.weight'), ('bias', '.bias')):
        tensor = state.pop(owner + fused + (f'_{kind}' if fused == 'attn.in_proj' else join), None)
        if tensor is not None:
            for name, part in zip(names, tensor.chunk(3), strict=True):
                state[f'{owner}{name}.{kind}'] = part.clone()


def replaced(state: State, *pairs: tuple[str, str]) -> State:
    renamed = {}
    for key, value in state.items():
        for old, new in pairs:
            key = key.replace(old, new)
        renamed[key] = value.clone()
    return renamed


QKV = tuple(f'self_attn.{part}_proj' for part in 'qkv')
OPEN_CLIP_BLOCK = (
    ('ln_1', 'layer_norm1'),
    ('ln_2', 'layer_norm2'),
    ('attn.out_proj', 'self_attn.out_proj'),
    ('mlp.c_fc', 'mlp.fc1'),
    ('mlp.c_proj', 'mlp.fc2'),
)


def text_layout(state: State, layers: int) -> State:
    """open_clip's text tower, named ``text_model``; the projection is left to the caller."""
    for index in range(layers):
        split(state, f'text.transformer.resblocks.{index}.', 'attn.in_proj', QKV)
    return replaced(
        state,
        ('text.token_embedding', 'text_model.embeddings.token_embedding'),
        ('text.positional_embedding', 'text_model.embeddings.position_embedding.weight'),
        ('text.transformer.resblocks', 'text_model.encoder.layers'),
        ('text.ln_final', 'text_model.final_layer_norm'),
        *OPEN_CLIP_BLOCK,
    )


def clip_layout(library: nn.Module) -> State:
    """``CLIPModel``."""
    state = {key: value.clone() for key, value in library.state_dict().items()}
    text = {key: state.pop(key) for key in list(state) if key.startswith('text.')}
    text = text_layout(text, 1)
    for index in range(3):
        split(state, f'visual.transformer.resblocks.{index}.', 'attn.in_proj', QKV)
    state = replaced(
        state,
        ('visual.class_embedding', 'vision_model.embeddings.class_embedding'),
        ('visual.positional_embedding', 'vision_model.embeddings.position_embedding.weight'),
        ('visual.conv1', 'vision_model.embeddings.patch_embedding'),
        ('visual.ln_pre', 'vision_model.pre_layrnorm'),
        ('visual.ln_post', 'vision_model.post_layernorm'),
        ('visual.transformer.resblocks', 'vision_model.encoder.layers'),
        *OPEN_CLIP_BLOCK,
    )
    state['visual_projection.weight'] = state.pop('visual.proj').T.contiguous()
    state['text_projection.weight'] = text.pop('text.text_projection').T.contiguous()
    state['vision_model.embeddings.position_ids'] = torch.arange(17)[None]
    return {**state, **text}


def siglip_layout(library: nn.Module) -> State:
    """``SiglipModel``."""
    state = {key: value.clone() for key, value in library.state_dict().items()}
    text = {key: state.pop(key) for key in list(state) if key.startswith('text.')}
    text = replaced(text_layout(text, 1), ('text.text_projection', 'text_model.head'))
    for index in range(3):
        split(state, f'visual.trunk.blocks.{index}.', 'attn.qkv', QKV)
    pool = 'visual.trunk.attn_pool.'
    for kind in ('weight', 'bias'):
        joined = torch.cat([state.pop(f'{pool}{name}.{kind}') for name in ('q', 'kv')])
        state[f'vision_model.head.attention.in_proj_{kind}'] = joined
    state = replaced(
        state,
        (f'{pool}latent', 'vision_model.head.probe'),
        (f'{pool}proj', 'vision_model.head.attention.out_proj'),
        (f'{pool}norm', 'vision_model.head.layernorm'),
        (pool, 'vision_model.head.'),
        ('visual.trunk.patch_embed.proj', 'vision_model.embeddings.patch_embedding'),
        ('visual.trunk.pos_embed', 'vision_model.embeddings.position_embedding.weight'),
        ('visual.trunk.blocks', 'vision_model.encoder.layers'),
        ('visual.trunk.norm', 'vision_model.post_layernorm'),
        ('attn.proj', 'self_attn.out_proj'),
        ('.norm1', '.layer_norm1'),
        ('.norm2', '.layer_norm2'),
    )
    position = 'vision_model.embeddings.position_embedding.weight'
    state[position] = state[position][0].clone()
    state['logit_scale'], state['logit_bias'] = (
        state[name].reshape(1) for name in ('logit_scale', 'logit_bias')
    )
    return {**state, **text}


def shake(model: nn.Module) -> nn.Module:
    for parameter in model.parameters():
        parameter.data += 0.2 * torch.randn(parameter.shape)
    return model.eval()


def assert_same(ours: Any, library: nn.Module) -> None:
    images, ids = torch.randn(2, 3, 64, 64), torch.randint(1, 1000, (2, 16))
    torch.testing.assert_close(ours.visual(images), library.visual(images), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(ours.text(ids), library.text(ids), atol=1e-5, rtol=1e-5)
    assert float(ours.logit_scale) == float(library.logit_scale)


def test_clip(toy_configs: dict[str, Any], tmp_path: Path) -> None:
    library = shake(CustomTextCLIP(**toy_configs['open_clip']))
    state = clip_layout(library)
    assert 'vision_model.encoder.layers.2.self_attn.k_proj.bias' in state
    save_file(state, tmp_path / 'model.safetensors')
    ours = build_clip(toy_configs['open_clip'], str(tmp_path / 'model.safetensors')).eval()
    assert_same(ours, library)


def test_clip_takes_its_activation_from_the_config_beside_it(
    toy_configs: dict[str, Any], tmp_path: Path
) -> None:
    library = shake(CustomTextCLIP(**toy_configs['quick_gelu']))
    save_file(clip_layout(library), tmp_path / 'model.safetensors')
    (tmp_path / 'config.json').write_text('{"model_type": "clip"}')
    ours = build_clip(toy_configs['open_clip'], str(tmp_path / 'model.safetensors')).eval()
    assert_same(ours, library)
    config = {'vision_config': {'hidden_act': 'gelu'}}
    (tmp_path / 'config.json').write_text(json.dumps(config))
    assert not is_quick_gelu(clip_layout(library), tmp_path / 'model.safetensors')


def test_siglip(toy_configs: dict[str, Any], tmp_path: Path) -> None:
    config = toy_configs['siglip']
    config['text_cfg'] = dict(config['text_cfg'], proj_bias=True)
    library = shake(CustomTextCLIP(**config))
    state = siglip_layout(library)
    assert state['text_model.head.bias'].shape == (32,)
    save_file(state, tmp_path / 'model.safetensors')
    ours = build_clip(config, str(tmp_path / 'model.safetensors')).eval()
    assert_same(ours, library)
    assert float(ours.logit_bias) == float(library.logit_bias)


def test_siglip_vision_tower_alone(toy_configs: dict[str, Any], tmp_path: Path) -> None:
    """UniRefiner saves the vision model of a SigLIP without the name of its owner."""
    library = shake(CustomTextCLIP(**toy_configs['siglip']))
    state = {
        key.removeprefix('vision_model.'): value
        for key, value in siglip_layout(library).items()
        if key.startswith('vision_model.')
    }
    torch.save(state, tmp_path / 'final.pth')
    ours = build_clip(toy_configs['siglip'], str(tmp_path / 'final.pth'), text=False).eval()
    images = torch.randn(2, 3, 64, 64)
    torch.testing.assert_close(ours.visual(images), library.visual(images), atol=1e-5, rtol=1e-5)
    torch.save({**state, 'reg_token': torch.ones(1, 4, 32)}, tmp_path / 'final.pth')
    with pytest.raises(ValueError, match=r'1 unexpected keys.*reg_token'):
        build_clip(toy_configs['siglip'], str(tmp_path / 'final.pth'), text=False)


@pytest.mark.parametrize('registers', [False, True])
def test_dinov2(registers: bool, tmp_path: Path) -> None:
    name = f'vit_small_patch14_{"reg4_" if registers else ""}dinov2'
    library = shake(timm.create_model(name, num_classes=0, **DINO))
    state = {key: value.clone() for key, value in library.state_dict().items()}
    for index in range(2):
        names = tuple(f'attention.attention.{part}' for part in ('query', 'key', 'value'))
        split(state, f'blocks.{index}.', 'attn.qkv', names)  # type: ignore[arg-type]
    if registers:  # the class slot is inside of the class token in timm
        state['pos_embed'] = torch.cat((torch.zeros(1, 1, 32), state['pos_embed']), dim=1)
    state = replaced(
        state,
        ('cls_token', 'embeddings.cls_token'),
        ('reg_token', 'embeddings.register_tokens'),
        ('pos_embed', 'embeddings.position_embeddings'),
        ('patch_embed.proj', 'embeddings.patch_embeddings.projection'),
        ('blocks.', 'encoder.layer.'),
        ('attn.proj', 'attention.output.dense'),
        ('ls1.gamma', 'layer_scale1.lambda1'),
        ('ls2.gamma', 'layer_scale2.lambda1'),
    )
    state = {f'layer{key}' if key.startswith('norm.') else key: v for key, v in state.items()}
    state['embeddings.mask_token'] = torch.ones(1, 32)
    save_file(state, tmp_path / 'model.safetensors')
    file = str(tmp_path / 'model.safetensors')
    ours = build_clip(f'timm/{name}', file, model_kwargs=DINO).visual.eval()
    images = torch.randn(1, 3, 56, 56)
    torch.testing.assert_close(ours(images), library(images), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize('gated', [False, True])
def test_dinov3(gated: bool, tmp_path: Path) -> None:
    name = f'vit_small_{"plus_" if gated else ""}patch16_dinov3_qkvb'
    sizes = dict(DINO, img_size=64)
    library = shake(timm.create_model(name, num_classes=0, **sizes))
    state = {key: value.clone() for key, value in library.state_dict().items()}
    for index in range(2):
        owner = f'blocks.{index}.attn.'
        for part, rows in zip('qkv', state.pop(f'{owner}qkv.weight').chunk(3), strict=True):
            state[f'{owner}{part}_proj.weight'] = rows.clone()
        for part in 'qv':
            state[f'{owner}{part}_proj.bias'] = state.pop(f'{owner}{part}_bias')
    mlp = (('fc1_g', 'gate_proj'), ('fc1_x', 'up_proj'), ('fc1', 'up_proj'), ('fc2', 'down_proj'))
    state = replaced(
        state,
        ('cls_token', 'embeddings.cls_token'),
        ('reg_token', 'embeddings.register_tokens'),
        ('patch_embed.proj', 'embeddings.patch_embeddings'),
        ('blocks.', 'layer.'),
        ('attn.proj', 'attention.o_proj'),
        ('attn.', 'attention.'),
        ('gamma_1', 'layer_scale1.lambda1'),
        ('gamma_2', 'layer_scale2.lambda1'),
        *mlp,
    )
    state['embeddings.mask_token'] = torch.ones(1, 1, 32)
    save_file(state, tmp_path / 'model.safetensors')
    file = str(tmp_path / 'model.safetensors')
    ours = build_clip(f'timm/{name}', file, model_kwargs=sizes).visual.eval()
    images = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(ours(images), library(images), atol=1e-5, rtol=1e-5)
    del state['layer.1.attention.v_proj.weight']
    save_file(state, tmp_path / 'model.safetensors')
    with pytest.raises(ValueError, match=r"blocks\.1|layer\.1.*got weight of \['k', 'q'\] only"):
        build_clip(f'timm/{name}', file, model_kwargs=sizes)


def test_missing_key_bias_is_zero() -> None:
    state = {f'a.{part}_proj.bias': torch.full((1,), float(i)) for i, part in ((1, 'q'), (2, 'v'))}
    assert fuse_qkv(state)['a.qkv.bias'].tolist() == [1.0, 0.0, 2.0]


def test_towers_that_are_others(toy_configs: dict[str, Any], tmp_path: Path) -> None:
    save_file(clip_layout(CustomTextCLIP(**toy_configs['open_clip'])), tmp_path / 'a.safetensors')
    with pytest.raises(ValueError, match='a CLIP tower for a CLIP file of transformers'):
        build_clip(toy_configs['eva02'], str(tmp_path / 'a.safetensors'))
    save_file(siglip_layout(CustomTextCLIP(**toy_configs['siglip'])), tmp_path / 'b.safetensors')
    with pytest.raises(ValueError, match='a SigLIP tower for a SigLIP file of transformers'):
        build_clip(toy_configs['open_clip'], str(tmp_path / 'b.safetensors'))
