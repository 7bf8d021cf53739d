"""The key layouts that weight files really have, recognised by their keys and renamed to ours.

Ours is the library's own naming: ``visual.model.*`` (the vision tower), ``text.*`` (open_clip's
text tower), ``logit_scale`` and ``logit_bias``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from open_clip.model import convert_to_custom_text_state_dict
from timm.models.eva import Eva
from torch import Tensor

from ..towers.dense_vit import DenseViT
from ..towers.open_clip_vit import OpenCLIPViT
from ..towers.timm_vit import TimmViT
from . import transformers_layout as transformers
from .renamed_state import OPENAI_SCALARS, Renamed, State
from .timm_layout import rename_timm

_RADIO_HUB = 'base_model.'


@dataclass(frozen=True)
class KeyLayout:
    """One way of naming the weights.

    Attributes:
        name: For messages.
        matches: Tells from the keys whether a file has this layout.
        rename: Renames a state dict for an encoder.
    """

    name: str
    matches: Callable[[Mapping[str, Tensor]], bool]
    rename: Callable[[State, DenseViT], Renamed]


def detect_layout(state: Mapping[str, Tensor]) -> KeyLayout:
    """Return the first layout that fits.

    Raises:
        ValueError: If none does; the message names the layouts and some keys.
    """
    for layout in LAYOUTS:
        if layout.matches(state):
            return layout
    if any(key.startswith(_RADIO_HUB) for key in state):
        raise ValueError(
            f"expected C-RADIO's model.safetensors (radio_model.*), got RADIO's file of torch.hub "
            f'({_RADIO_HUB}*); take the safetensors file of the same model, or a tag of timm '
            "('timm/vit_base_patch16_radio_v3', 'c_radio')"
        )
    raise ValueError(
        f'expected one of the key layouts {[layout.name for layout in LAYOUTS]}, got keys like '
        f'{list(state)[:5]} ({len(state)} in all); rename them to one of these layouts'
    )


def is_openai(state: Mapping[str, Tensor]) -> bool:
    """Tell whether these are OpenAI's own weights, which need quick GELU."""
    return 'visual.proj' in state and any(key in state for key in OPENAI_SCALARS)


def wants_quick_gelu(state: Mapping[str, Tensor], path: str | Path | None) -> bool:
    """Tell whether the keys of a file, or the config beside it, ask for quick GELU."""
    return is_openai(state) or (path is not None and transformers.is_quick_gelu(state, path))


def _any_prefix(*prefixes: str) -> Callable[[Mapping[str, Tensor]], bool]:
    """Return a test for any key that starts with one of the prefixes."""
    return lambda state: any(key.startswith(prefixes) for key in state)


def _rename_ours(state: State, visual: DenseViT) -> Renamed:
    """Take the encoder out of a checkpoint of this project, whatever model owned it."""
    owners = {key.partition('visual.model.')[0] for key in state if 'visual.model.' in key}
    owner = choose_owner(owners)
    parts = tuple(owner + part for part in ('visual.', 'text.', 'logit_'))
    renamed = Renamed({})
    for key, tensor in state.items():
        if key.startswith(parts):
            renamed.state[key.removeprefix(owner)] = tensor
        else:
            renamed.ignored['outside the encoder: ' + key.partition('.')[0] + '.*'] += 1
    return renamed


def choose_owner(owners: set[str]) -> str:
    """Choose whose part of a checkpoint is meant: the student's, a backbone's, or the only one.

    Args:
        owners: Prefixes in front of the part, each empty or ending in a dot.

    Raises:
        ValueError: If there are several and none stands out.
    """
    for wanted in ('student.', 'backbone.', ''):
        found = [owner for owner in owners if wanted in owner]
        if len(found) == 1:
            return found[0]
    raise ValueError(
        f'expected one owner in the checkpoint, got {sorted(owners)}; keep the keys of one'
    )


def _rename_open_clip(state: State, visual: DenseViT) -> Renamed:
    """Move open_clip's and OpenAI's names to ``visual.model.*`` and ``text.*``."""
    _check_builder(state, visual, 'visual.')
    renamed = Renamed({})
    for key, tensor in convert_to_custom_text_state_dict(state).items():
        if key in OPENAI_SCALARS:
            renamed.ignored['scalar of OpenAI files'] += 1
        elif key.startswith('visual.'):
            renamed.state['visual.model.' + key.removeprefix('visual.')] = tensor
        else:
            renamed.state[key] = tensor
    return renamed


def _rename_open_clip_vision(state: State, visual: DenseViT) -> Renamed:
    """Move the names of an open_clip vision tower saved alone."""
    _check_builder(state, visual, '')
    return Renamed({'visual.model.' + key: tensor for key, tensor in state.items()})


def _check_builder(state: State, visual: DenseViT, owner: str) -> None:
    """Raise a ValueError if the layers of a file are open_clip's and the tower timm's, or reverse.

    Args:
        state: The file.
        visual: The tower.
        owner: Prefix of the tower in the file.
    """
    if isinstance(visual, TimmViT) and f'{owner}conv1.weight' in state:
        raise ValueError(
            f'expected the layers of a tower of timm, got {owner}conv1.* and transformer.*, as in '
            "files of OpenAI, of open_clip's own ViTs and of Perception Encoder's authors; for the "
            "last take the tag ('meta' of open_clip, 'fb' of timm) or its file, for the others a "
            "model such as 'ViT-B-16'"
        )
    if isinstance(visual, OpenCLIPViT) and any(key.startswith(f'{owner}trunk.') for key in state):
        raise ValueError(
            f"expected the layers of open_clip's own ViT, got {owner}trunk.*, a tower of timm; "
            'choose the model of the file'
        )


def _rename_eva_clip(state: State, visual: DenseViT) -> Renamed:
    """Move EVA-CLIP's own names; its text tower is named like open_clip's."""
    if not (isinstance(visual, TimmViT) and isinstance(visual.trunk, Eva)):
        raise ValueError(
            'expected a model with an EVA tower for a file in the EVA-CLIP layout, got '
            f'{type(visual.model).__name__}; choose e.g. EVA02-B-16'
        )
    tower = {key: tensor for key, tensor in state.items() if key.startswith('visual.')}
    renamed = rename_timm(tower, visual)
    renamed.state.update({key: tensor for key, tensor in state.items() if key not in tower})
    return renamed


LAYOUTS = (
    KeyLayout('refineclip', lambda s: any('visual.model.' in key for key in s), _rename_ours),
    KeyLayout('OpenAI', is_openai, _rename_open_clip),
    KeyLayout('EVA-CLIP', _any_prefix('visual.blocks.'), _rename_eva_clip),
    KeyLayout(
        'open_clip',
        _any_prefix('visual.conv1.', 'visual.trunk.', 'visual.transformer.'),
        _rename_open_clip,
    ),
    KeyLayout(
        'open_clip vision tower',
        _any_prefix('conv1.', 'trunk.'),
        _rename_open_clip_vision,
    ),
    KeyLayout('transformers CLIP', transformers.is_clip, transformers.rename_clip),
    KeyLayout('transformers SigLIP', transformers.is_siglip, transformers.rename_siglip),
    KeyLayout('transformers DINO', transformers.is_dino, transformers.rename_dino),
    KeyLayout(
        'timm',
        _any_prefix('blocks.', 'patch_embed.', 'radio_model.', 'vision_encoder.'),
        rename_timm,
    ),
)
