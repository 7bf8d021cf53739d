"""Weights of an encoder under the names that transformers gives them.

Names come from the table that reads such files
(:mod:`refineclip.encoders.weights.transformers_names`), from right to left.
"""

from __future__ import annotations

import re

import torch
from open_clip.timm_model import TimmModel
from torch import nn

from refineclip.encoders.dense_clip import DenseCLIP
from refineclip.encoders.towers.timm_vit import TimmViT
from refineclip.encoders.weights.renamed_state import State, computed_pattern
from refineclip.encoders.weights.transformers_names import (
    CLIP,
    DINO,
    DINO_BLOCK,
    OPEN_CLIP_BLOCK,
    SIGLIP_VISION,
    TEXT,
    TIMM_BLOCK,
    rename_back,
)

_FUSED = re.compile(r'(.*\.)qkv\.(weight|bias)')


def clip_state(clip: DenseCLIP) -> State:
    """Weights of an OpenAI or OpenCLIP model as ``CLIPModel`` has them."""
    state = _stored(clip)
    text = clip.text
    projection = None if text is None else text.text_projection
    if isinstance(projection, nn.Linear):  # a matrix in OpenAI's own, which the table knows
        state['text.text_projection'] = state.pop('text.text_projection.weight').T
    for name in ('visual.model.proj', 'text.text_projection'):  # Linear there
        state[name] = state[name].T
    return _split(rename_back(state, CLIP, OPEN_CLIP_BLOCK), ('q_proj', 'k_proj', 'v_proj'))


def siglip_state(clip: DenseCLIP) -> State:
    """Weights of a SigLIP as ``SiglipModel`` has them."""
    state = _stored(clip)
    assert isinstance(clip.visual, TimmViT)
    tower = _trunk_state(clip.visual)
    for kind in ('weight', 'bias'):
        joined = torch.cat((tower.pop(f'attn_pool.q.{kind}'), tower.pop(f'attn_pool.kv.{kind}')))
        tower[f'attn_pool.attention.in_proj_{kind}'] = joined
    tower['pos_embed'] = tower['pos_embed'][0]
    other = {key: tensor for key, tensor in state.items() if not key.startswith('visual.')}
    for name in ('logit_scale', 'logit_bias'):
        if name in other:
            other[name] = other[name].reshape(1)
    renamed = rename_back(tower, SIGLIP_VISION, TIMM_BLOCK)
    renamed.update(rename_back(other, TEXT, OPEN_CLIP_BLOCK))
    return _split(renamed, ('q_proj', 'k_proj', 'v_proj'))


def dinov2_state(visual: TimmViT) -> State:
    """Weights of a DINOv2 as ``Dinov2Model`` or ``Dinov2WithRegistersModel`` has them."""
    tower = _trunk_state(visual)
    registers = tower.pop('reg_token', None)
    if visual.trunk.no_embed_class:  # timm adds the class token's position to the token itself
        tower['pos_embed'] = nn.functional.pad(tower['pos_embed'], (0, 0, 1, 0))
    # Of the pre-training, and not in timm's files.
    tower['mask_token'] = torch.zeros(1, visual.width)
    renamed = rename_back(tower, DINO, DINO_BLOCK)
    if registers is not None:
        renamed['embeddings.register_tokens'] = registers
    return _split(renamed, ('query', 'key', 'value'))


def _stored(module: nn.Module) -> State:
    return {key: t for key, t in module.state_dict().items() if computed_pattern(key) is None}


def _trunk_state(visual: TimmViT) -> State:
    assert not isinstance(visual.trunk, TimmModel)
    return _stored(visual.trunk)


def _split(state: State, names: tuple[str, str, str]) -> State:
    """Split fused projections into query, key and value."""
    split: State = {}
    for key, tensor in state.items():
        fused = _FUSED.fullmatch(key)
        if fused is None:
            split[key] = tensor
            continue
        for name, part in zip(names, tensor.chunk(3), strict=True):
            split[f'{fused[1]}{name}.{fused[2]}'] = part
    return split
