"""timm's names, those that timm converts (DINOv2's, DINOv3's, EVA's), and what timm would drop."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import timm
import torch
from open_clip.timm_model import TimmModel
from timm.models.eva import Eva
from timm.models.eva import checkpoint_filter_fn as filter_eva
from timm.models.vision_transformer import checkpoint_filter_fn as filter_vit

from ..towers.dense_vit import DenseViT
from ..towers.timm_vit import TimmViT
from .position_grids import check_grid
from .renamed_state import Renamed, State, group_of, leave_out

# What timm's conversion leaves out with reason: not part of the tower, or of its training only.
_UNUSED = (
    (re.compile(r'(^|\.)mask_token$'), 'mask token of the pre-training'),
    (re.compile(r'^lm_head\.'), 'head of the pre-training'),
    (re.compile(r'^projectors\.'), 'projector of the distillation'),
    (re.compile(r'^local_cls_norm\.'), 'norm of small training crops'),
    (re.compile(r'\.bias_mask$'), 'mask of a bias'),
    (re.compile(r'^(text_encoder|temperature)'), 'text tower'),
    (re.compile(r'^radio_model\.(input_conditioner|summary_idxs)'), 'preprocessing'),
    (re.compile(r'^(radio_model\.)?(_?adaptors|_?heads|feature_normalizer)'), 'adaptor of RADIO'),
)
_REGISTERS = ('reg_token', 'register_tokens', 'storage_tokens')


def rename_timm(state: State, visual: DenseViT) -> Renamed:
    """Move timm's names, and those that timm converts, to ours.

    Raises:
        ValueError: If the model has no timm tower, or a tensor that is not zero would be dropped.
    """
    if not isinstance(visual, TimmViT):
        raise ValueError(
            'expected a model with a timm tower for a file in the timm layout, got '
            f"{type(visual.model).__name__}; choose e.g. 'timm/vit_small_patch14_dinov2'"
        )
    trunk = visual.trunk
    renamed = Renamed({})
    state = _fold_qkv_biases(state, trunk, renamed)
    _check_registers(state, trunk)
    position = state.get('pos_embed', state.get('visual.pos_embed'))  # the second is EVA-CLIP's
    if position is not None and trunk.pos_embed is not None:
        num_prefix = 0 if trunk.no_embed_class else trunk.num_prefix_tokens
        num_prefix += 'register_tokens' in state  # DINOv2's own files keep a slot for the class
        check_grid('pos_embed', position, trunk.pos_embed, num_prefix)
    prefix = 'visual.model.trunk.' if isinstance(visual.model, TimmModel) else 'visual.model.'
    for key, tensor in _convert(state, trunk, renamed).items():
        if key.startswith('head.') and trunk.num_classes == 0:
            renamed.ignored['classifier head.*, which this encoder does not have'] += 1
        else:
            renamed.state[prefix + key] = tensor
    return renamed


def _convert(state: State, trunk: Any, renamed: Renamed) -> State:
    """Apply timm's own conversion, and account for every tensor that goes into it.

    Raises:
        ValueError: If timm cannot convert the file, or drops what matters.
    """
    convert = filter_eva if isinstance(trunk, Eva) else filter_vit
    try:
        converted = convert(dict(state), trunk)
    except (RuntimeError, AssertionError, LookupError, TypeError, ValueError) as error:
        raise ValueError(
            f'expected a file that timm can convert for {_name(trunk)}, got keys like '
            f'{list(state)[:3]} with shapes that do not fit; choose the model of the file'
        ) from error
    passed = {id(tensor) for tensor in converted.values()}
    for key, tensor in state.items():
        if id(tensor) in passed or _matters(key, state, trunk, convert):
            continue
        reason = next((why for pattern, why in _UNUSED if pattern.search(key)), None)
        if reason is not None:
            renamed.ignored[f'{group_of(key)}: {reason}'] += 1
        else:
            leave_out(renamed, key, tensor, f'timm has no place for it in {_name(trunk)}')
    return converted


def _matters(key: str, state: State, trunk: Any, convert: Callable[..., State]) -> bool:
    """Tell whether what timm makes of a file depends on one of its tensors.

    Not-a-number goes in at the key, and is looked for in what comes out.
    """
    if not state[key].is_floating_point():
        return False
    probe = convert({**state, key: torch.full_like(state[key], float('nan'))}, trunk)
    return any(bool(out.isnan().any()) for out in probe.values() if out.is_floating_point())


def _fold_qkv_biases(state: State, trunk: Any, renamed: Renamed) -> State:
    """Split the fused biases of DINOv3's own files, which timm drops where its model has none.

    Their ``bias_mask`` silences the third of the keys.

    Raises:
        ValueError: If biases that are not zero have no place.
    """
    own = {name for name, _ in trunk.named_parameters()}
    fused = [key for key in state if key.endswith('.attn.qkv.bias') and key not in own]
    if not isinstance(trunk, Eva):
        return state
    state = dict(state)
    for key in fused:
        owner = key.removesuffix('qkv.bias')
        bias, mask = state.pop(key), state.pop(f'{owner}qkv.bias_mask', None)
        if mask is not None and mask.isfinite().all():
            bias = bias * mask
        query, keys, value = bias.chunk(3)
        leave_out(renamed, f'{owner}k_bias', keys, 'this tower adds no bias to the keys')
        if f'{owner}q_bias' in own:
            state[f'{owner}q_bias'], state[f'{owner}v_bias'] = query, value
        else:
            leave_out(renamed, key, bias, f'choose the model with biases, {_with_biases(trunk)}')
    return state


def _check_registers(state: State, trunk: Any) -> None:
    """Raise a ValueError if a file has register tokens and the model none, or the reverse."""
    place = getattr(trunk, 'reg_token', None) is not None
    found = any(key in state for key in _REGISTERS)
    is_file_of_tower = 'cls_token' in state
    if is_file_of_tower and place != found:
        has, lacks = ('the model', 'the file') if place else ('the file', 'the model')
        raise ValueError(
            f'expected register tokens in both or neither, got them in {has} and not in {lacks} '
            f'({_name(trunk)}); choose the variant of the model that fits, e.g. '
            f"'timm/vit_small_patch14_{'' if place else 'reg4_'}dinov2'"
        )


def _name(trunk: Any) -> str:
    config: Any = getattr(trunk, 'pretrained_cfg', None) or {}
    return str(config.get('architecture') or type(trunk).__name__)


def _with_biases(trunk: Any) -> str:
    wanted = f'{_name(trunk)}_qkvb'
    return f"'timm/{wanted}'" if timm.is_model(wanted) else "a timm model named '..._qkvb'"
