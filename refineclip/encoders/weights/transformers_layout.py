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
from .transformers_names import (
    CLIP,
    DINO,
    DINO_BLOCK,
    OPEN_CLIP_BLOCK,
    SIGLIP_VISION,
    TEXT,
    TIMM_BLOCK,
    rename,
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
    renamed = rename(fuse_qkv(_with_owner(state)), CLIP, OPEN_CLIP_BLOCK)
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
    moved = rename(tower, SIGLIP_VISION, TIMM_BLOCK)
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
    return Renamed({**renamed, **rename(other, TEXT, OPEN_CLIP_BLOCK)})


def rename_dino(state: State, visual: DenseViT) -> Renamed:
    """Move DINOv2's and DINOv3's names to those of their authors' files, which timm converts.

    Raises:
        ValueError: If the model has another tower.
    """
    state = {re.sub(r'^dinov2\w*\.', '', key): tensor for key, tensor in state.items()}
    moved = rename(fuse_qkv(state), DINO, DINO_BLOCK)
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


def _other_tower(family: str, visual: DenseViT, example: str) -> ValueError:
    return ValueError(
        f'expected a model with a {family} tower for a {family} file of transformers, got '
        f'{type(visual.model).__name__}; choose e.g. {example}'
    )
