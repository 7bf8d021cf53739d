"""A state dict on its way into an encoder: what is renamed, and what may be left out."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field

from torch import Tensor

State = dict[str, Tensor]

# Scalars that OpenAI's files carry beside the weights.
OPENAI_SCALARS = ('input_resolution', 'context_length', 'vocab_size')
LOGIT_PARAMETERS = ('logit_scale', 'logit_bias')

# Buffers that newer libraries compute instead of storing. Mixed RoPE's ``rope.freqs`` is a
# parameter.
_COMPUTED = (
    re.compile(r'(^|\.)rope\.(?!freqs$)'),
    re.compile(r'(^|\.)rope_embed\.periods$'),
    re.compile(r'(^|\.)rope_embeddings\.inv_freq$'),
    re.compile(r'(^|\.)attn_mask$'),
    re.compile(r'(^|\.)position_ids$'),
    re.compile(r'(^|\.)relative_position_index$'),
)
# A buffer of zeros in timm; a file in which it is none has a tower that attends otherwise.
_ZERO = re.compile(r'(^|\.)k_bias$')


@dataclass
class Renamed:
    """A state dict in our naming, and what was left out of it.

    Attributes:
        state: Tensors by our names.
        ignored: Number of tensors left out, by reason.
    """

    state: State
    ignored: Counter[str] = field(default_factory=Counter)


def computed_pattern(key: str) -> str | None:
    """Return the pattern of the computed buffers that a key belongs to, None if to none."""
    return next((pattern.pattern for pattern in _COMPUTED if pattern.search(key)), None)


def drop_computed(state: State) -> Renamed:
    """Leave out buffers that the libraries compute.

    Raises:
        ValueError: If a buffer that is zero in the libraries is not in the file.
    """
    renamed = Renamed({})
    for key, tensor in state.items():
        pattern = computed_pattern(key)
        if pattern is not None:
            renamed.ignored[f'computed buffer {pattern}'] += 1
        elif _ZERO.search(key):
            leave_out(renamed, key, tensor, 'this tower adds no bias to the keys')
        else:
            renamed.state[key] = tensor
    return renamed


def leave_out(renamed: Renamed, key: str, tensor: Tensor, why: str) -> None:
    """Leave out a tensor that has no place in the encoder, if that changes nothing.

    Args:
        renamed: Where it is counted.
        key: Its name in the file.
        tensor: Its values.
        why: Why there is no place, and what to do; for the message.

    Raises:
        ValueError: If it is not all zero.
    """
    if tensor.any():
        raise ValueError(
            f'expected a file whose every tensor has a place in the model, got {key} '
            f'{tuple(tensor.shape)}, which is not zero and would be dropped: {why}'
        )
    renamed.ignored[f'{group_of(key)}, all zero'] += 1


def group_of(key: str) -> str:
    """Return the group of a key: up to its first number, or without its last part."""
    parts = key.split('.')
    numbered = next((i for i, part in enumerate(parts) if part.isdigit()), None)
    if numbered is not None:
        return '.'.join([*parts[:numbered], '*'])
    return '.'.join([*parts[:-1], '*']) if len(parts) > 1 else key
