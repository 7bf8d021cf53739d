"""The names that Hugging Face's transformers gives to CLIP, SigLIP, DINOv2 and DINOv3."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from pathlib import Path

import torch
from mmengine.logging import print_log
from open_clip.timm_model import TimmModel
from torch import Tensor

from ..towers.dense_vit import DenseViT
from ..towers.open_clip_vit import OpenCLIPViT
from ..towers.timm_vit import TimmViT
from .renamed_state import Renamed, State
from .timm_layout import rename_timm

Rules = tuple[tuple[str, str], ...]

_OPEN_CLIP_BLOCK = (
    ('layer_norm1', 'ln_1'),
    ('layer_norm2', 'ln_2'),
    ('self_attn.out_proj', 'attn.out_proj'),
    ('self_attn.qkv.', 'attn.in_proj_'),
    ('mlp.fc1', 'mlp.c_fc'),
    ('mlp.fc2', 'mlp.c_proj'),
)
_TIMM_BLOCK = (
    ('layer_norm', 'norm'),
    ('self_attn.out_proj', 'attn.proj'),
    ('self_attn.qkv', 'attn.qkv'),
)
# (name of transformers, ours); prefixes, the first that fits counts.
_TEXT: Rules = (
    ('text_model.embeddings.token_embedding.', 'text.token_embedding.'),
    ('text_model.embeddings.position_embedding.weight', 'text.positional_embedding'),
    ('text_model.encoder.layers.', 'text.transformer.resblocks.'),
    ('text_model.final_layer_norm.', 'text.ln_final.'),
    ('text_model.head.', 'text.text_projection.'),
    ('text_projection.weight', 'text.text_projection'),
)
_CLIP: Rules = (
    *_TEXT,
    ('vision_model.embeddings.class_embedding', 'visual.model.class_embedding'),
    ('vision_model.embeddings.patch_embedding.', 'visual.model.conv1.'),
    ('vision_model.embeddings.position_embedding.weight', 'visual.model.positional_embedding'),
    ('vision_model.pre_layrnorm.', 'visual.model.ln_pre.'),
    ('vision_model.encoder.layers.', 'visual.model.transformer.resblocks.'),
    ('vision_model.post_layernorm.', 'visual.model.ln_post.'),
    ('visual_projection.weight', 'visual.model.proj'),
)
_SIGLIP_VISION: Rules = (
    ('vision_model.embeddings.patch_embedding.', 'patch_embed.proj.'),
    ('vision_model.embeddings.position_embedding.weight', 'pos_embed'),
    ('vision_model.encoder.layers.', 'blocks.'),
    ('vision_model.post_layernorm.', 'norm.'),
    ('vision_model.head.probe', 'attn_pool.latent'),
    ('vision_model.head.attention.out_proj.', 'attn_pool.proj.'),
    ('vision_model.head.layernorm.', 'attn_pool.norm.'),
    ('vision_model.head.', 'attn_pool.'),
)
_DINO: Rules = (
    (r'embeddings.patch_embeddings.projection.', 'patch_embed.proj.'),
    (r'embeddings.patch_embeddings.', 'patch_embed.proj.'),
    ('embeddings.position_embeddings', 'pos_embed'),
    ('embeddings.', ''),
    ('encoder.layer.', 'blocks.'),
    ('layer.', 'blocks.'),
    ('layernorm.', 'norm.'),
)
_DINO_BLOCK = (
    ('attention.attention.qkv', 'attn.qkv'),
    ('attention.output.dense', 'attn.proj'),
    ('attention.o_proj', 'attn.proj'),
    ('attention.qkv', 'attn.qkv'),
    ('layer_scale1.lambda1', 'ls1.gamma'),
    ('layer_scale2.lambda1', 'ls2.gamma'),
    ('mlp.weights_in', 'mlp.w12'),
    ('mlp.weights_out', 'mlp.w3'),
)
_VISION = ('vision_model.', '')
_PART = re.compile(r'(.*\.)(q_proj|k_proj|v_proj|query|key|value)\.(weight|bias)')
_PARTS = {'query': 'q', 'key': 'k', 'value': 'v'}


def is_clip(state: Mapping[str, Tensor]) -> bool:
    """Tell whether these are keys of ``CLIPModel``, or of its vision tower saved alone."""
    return any(f'{owner}embeddings.class_embedding' in state for owner in _VISION)


def is_siglip(state: Mapping[str, Tensor]) -> bool:
    """Tell whether these are keys of ``SiglipModel``, or of its vision tower saved alone."""
    bias = any(f'{owner}embeddings.patch_embedding.bias' in state for owner in _VISION)
    return bias and not is_clip(state)


def is_dino(state: Mapping[str, Tensor]) -> bool:
    """Tell whether these are keys of ``Dinov2Model`` (registers or not) or ``DINOv3ViTModel``."""
    return any(re.match(r'(dinov2\w*\.)?embeddings\.patch_embeddings\.', key) for key in state)


def rename_clip(state: State, visual: DenseViT) -> Renamed:
    """Move ``CLIPModel``'s names.

    Raises:
        ValueError: If the model has another tower.
    """
    if not isinstance(visual, OpenCLIPViT):
        raise _other_tower('CLIP', visual, "'ViT-B-16'")
    renamed = _rename(fuse_qkv(_with_owner(state)), _CLIP, _OPEN_CLIP_BLOCK)
    for name in ('visual.model.proj', 'text.text_projection'):  # Linear there, a matrix here
        if name in renamed:
            renamed[name] = renamed[name].T.contiguous()
    return Renamed(renamed)


def rename_siglip(state: State, visual: DenseViT) -> Renamed:
    """Move ``SiglipModel``'s names.

    Raises:
        ValueError: If the model has another tower.
    """
    if not isinstance(visual, TimmViT):
        raise _other_tower('SigLIP', visual, "'ViT-B-16-SigLIP'")
    state = fuse_qkv(_with_owner(state))
    tower = {key: tensor for key, tensor in state.items() if key.startswith('vision_model.')}
    other = {key: tensor for key, tensor in state.items() if key not in tower}
    moved = _rename(tower, _SIGLIP_VISION, _TIMM_BLOCK)
    if 'pos_embed' in moved:
        moved['pos_embed'] = moved['pos_embed'][None]
    for kind in ('weight', 'bias'):
        joined = moved.pop(f'attn_pool.attention.in_proj_{kind}', None)
        if joined is not None:
            query, *rest = joined.chunk(3)
            moved[f'attn_pool.q.{kind}'] = query
            moved[f'attn_pool.kv.{kind}'] = torch.cat(rest)
    prefix = 'visual.model.trunk.' if isinstance(visual.model, TimmModel) else 'visual.model.'
    renamed = {prefix + key: tensor for key, tensor in moved.items()}
    return Renamed({**renamed, **_rename(other, _TEXT, _OPEN_CLIP_BLOCK)})


def rename_dino(state: State, visual: DenseViT) -> Renamed:
    """Move DINOv2's and DINOv3's names to those of their authors' files, which timm converts.

    Raises:
        ValueError: If the model has another tower.
    """
    state = {re.sub(r'^dinov2\w*\.', '', key): tensor for key, tensor in state.items()}
    moved = _rename(fuse_qkv(state), _DINO, _DINO_BLOCK)
    if 'pos_embed' in moved:  # DINOv2; its mask token tells timm whose file this is
        moved.setdefault('mask_token', torch.zeros(1, moved['pos_embed'].shape[-1]))
        return rename_timm(moved, visual)
    moved = {key.replace('register_tokens', 'storage_tokens'): t for key, t in moved.items()}
    gated = any('.mlp.gate_proj.' in key for key in moved)
    names = ('w1', 'w2', 'w3') if gated else ('', 'fc1', 'fc2')
    for old, new in zip(('gate_proj', 'up_proj', 'down_proj'), names, strict=True):
        moved = {key.replace(f'.mlp.{old}.', f'.mlp.{new}.'): t for key, t in moved.items()}
    return rename_timm(moved, visual)


def fuse_qkv(state: State) -> State:
    """Join query, key and value projections to ``qkv``; a missing key bias (DINOv3) is zero.

    Raises:
        ValueError: If a layer has some of the three only.
    """
    fused: State = {}
    parts: dict[tuple[str, str], dict[str, Tensor]] = {}
    for key, tensor in state.items():
        match = _PART.fullmatch(key)
        if match is None:
            fused[key] = tensor
        else:
            part = _PARTS.get(match[2], match[2][0])
            parts.setdefault((match[1], match[3]), {})[part] = tensor
    for (owner, kind), found in parts.items():
        if kind == 'bias' and 'q' in found and 'k' not in found:
            found['k'] = torch.zeros_like(found['q'])
        if set(found) != {'q', 'k', 'v'}:
            raise ValueError(
                f'expected query, key and value projections in {owner}*, got {kind} of '
                f'{sorted(found)} only; is the file whole?'
            )
        fused[f'{owner}qkv.{kind}'] = torch.cat([found[part] for part in 'qkv'])
    return fused


def is_quick_gelu(state: Mapping[str, Tensor], path: str | Path) -> bool:
    """Tell whether a ``CLIPModel`` file needs quick GELU, by the ``config.json`` beside it.

    transformers' default is quick GELU, so its configs may leave it out. Without a config nobody
    knows, and a warning says so.
    """
    if not is_clip(state):
        return False
    config = Path(path).with_name('config.json')
    if not config.is_file():
        print_log(
            f'{path}: a CLIP in the layout of transformers does not say its activation, and there '
            "is no config.json beside it; OpenAI's weights need a model named '...-quickgelu'",
            logger='current',
            level=logging.WARNING,
        )
        return False
    vision = json.loads(config.read_text(encoding='utf-8')).get('vision_config') or {}
    return vision.get('hidden_act', 'quick_gelu') == 'quick_gelu'


def _with_owner(state: State) -> State:
    """Name the keys of a vision tower saved alone as in the whole model."""
    if any(key.startswith('vision_model.') for key in state):
        return state
    return {f'vision_model.{key}': tensor for key, tensor in state.items()}


def _rename(state: State, rules: Rules, block_rules: Rules) -> State:
    """Rename by prefix, then within the blocks; what no rule knows keeps its name."""
    renamed = {}
    for key, tensor in state.items():
        for old, new in rules:
            if key.startswith(old):
                key = new + key.removeprefix(old)
                break
        if re.match(r'.*(blocks|resblocks)\.\d+\.', key):
            for old, new in block_rules:
                key = key.replace(old, new)
        renamed[key] = tensor
    return renamed


def _other_tower(family: str, visual: DenseViT, example: str) -> ValueError:
    return ValueError(
        f'expected a model with a {family} tower for a {family} file of transformers, got '
        f'{type(visual.model).__name__}; choose e.g. {example}'
    )
