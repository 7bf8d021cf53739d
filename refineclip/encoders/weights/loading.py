"""Load weight files strictly, whatever their key layout."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import torch
from mmengine.logging import print_log
from torch import Tensor, nn

from ..dense_clip import DenseCLIP
from ..towers.position_interpolation import resize_position
from .activation import check_activation
from .checkpoint_file import read_checkpoint
from .key_layouts import choose_owner, detect_layout
from .position_grids import check_grid
from .renamed_state import LOGIT_PARAMETERS, Renamed, State, drop_computed, group_of

_NUM_NAMED = 5


def load_weights(clip: DenseCLIP, path: str | Path, source: State | None = None) -> None:
    """Load a weight file into a model, strictly.

    The key layout is found by itself, and a table of what went where is logged. Position embeddings
    of another grid are resized as the tower does for images of another size. Text weights are left
    out for a model without text tower; the reverse, a vision-only file for a model with text, is an
    error.

    Args:
        clip: The model.
        path: See :func:`~refineclip.encoders.checkpoint_file.read_checkpoint`.
        source: What that function returned for the path, if the caller has it already.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If keys or shapes do not fit, or a tensor that is not zero has no place; the
            message names the first.
    """
    source = read_checkpoint(path) if source is None else source
    layout = detect_layout(source)
    stored = drop_computed(source)
    renamed = layout.rename(stored.state, clip.visual)
    renamed.ignored.update(stored.ignored)
    _drop_absent_parts(renamed, clip)
    _resize_position_embedding(renamed.state, clip, source)
    _reshape_scalars(renamed.state, clip)
    # Without a text tower the logits are the business of whoever brings the text embeddings.
    tolerated = set(LOGIT_PARAMETERS) if clip.text is None else set()
    check_fit(clip, renamed.state, path, tolerated)
    clip.load_state_dict(renamed.state, strict=False)  # strict up to ``tolerated``: just checked
    kept = sorted(set(clip.state_dict()) - set(renamed.state))
    _log_table(path, layout.name, source, renamed, kept)


def has_submodule(source: State, prefix: str) -> bool:
    """Tell whether a state holds keys under a prefix, owners before it skipped."""
    return any(key.startswith(prefix) or f'.{prefix}' in key for key in source)


def load_submodule(
    module: nn.Module, path: str | Path, prefix: str, source: State | None = None
) -> None:
    """Load the part of a checkpoint under a prefix into a module, strictly.

    Args:
        module: The module.
        path: See :func:`~refineclip.encoders.checkpoint_file.read_checkpoint`.
        prefix: Name of the part with its dot, e.g. ``'refiner.'``; owners before it are skipped
            (``encoder.refiner.*``).
        source: What ``read_checkpoint`` returned for the path, if the caller has it already.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If the prefix is not there, keys or shapes do not fit, or the weights were
            trained with another activation.
    """
    state = read_checkpoint(path) if source is None else source
    check_activation(module, getattr(state, 'meta', {}), path)
    pattern = re.compile(rf'^((?:.*?\.)?){re.escape(prefix)}')
    owners = {match.group(1) for match in map(pattern.match, state) if match}
    if not owners:
        raise ValueError(
            f'expected keys with {prefix!r} in {path}, got keys like {list(state)[:5]}'
        )
    start = choose_owner(owners) + prefix
    part = {k.removeprefix(start): v for k, v in state.items() if k.startswith(start)}
    check_fit(module, part, path)
    module.load_state_dict(part)
    print_log(f'loaded {len(part)} tensors under {start}* from {path}', 'current')


def check_fit(
    module: nn.Module, state: State, path: str | Path, tolerated: Iterable[str] = ()
) -> None:
    """Raise a ValueError if keys or shapes of a state dict do not fit a module.

    Args:
        module: The module.
        state: What is to be loaded.
        path: The file, for the message.
        tolerated: Keys that may be missing.
    """
    expected = module.state_dict()
    missing = [key for key in expected if key not in state and key not in set(tolerated)]
    unexpected = [key for key in state if key not in expected]
    if missing or unexpected:
        hint = ''
        if missing and set(missing) <= set(LOGIT_PARAMETERS):
            hint = (
                f'; the file has both towers but not the temperature of the logits: add '
                f"{missing[0]} to it (log(100) = 4.605 in OpenAI's), or build with text=False"
            )
        elif missing and all(key.startswith(('text.', 'logit_')) for key in missing):
            hint = '; the file has no text tower, build the model with text=False'
        raise ValueError(
            f'expected {path} to fit the model, got {len(missing)} missing keys (first: '
            f'{missing[:_NUM_NAMED]}) and {len(unexpected)} unexpected keys (first: '
            f'{unexpected[:_NUM_NAMED]}){hint}'
        )
    for key, value in state.items():
        if kind := unlike_weights(value, expected[key]):
            raise ValueError(
                f'expected {key} of floating-point numbers in {path}, got {kind}; convert it to '
                'float16, bfloat16 or float32 with what wrote the file'
            )
        if value.shape != expected[key].shape:
            raise ValueError(
                f'expected {key} with shape {tuple(expected[key].shape)}, got '
                f'{tuple(value.shape)} in {path}; is it another model size?'
            )


def unlike_weights(value: Tensor, own: Tensor) -> str:
    """Say what a tensor is that cannot stand for weights; empty if it can.

    Copying it would drop the imaginary part, the scale of integers, or fail in torch's words.

    Args:
        value: Of a file.
        own: The parameter or buffer that it is for.
    """
    if value.is_meta:
        return 'a tensor without numbers (on the device meta)'
    if value.layout is not torch.strided:
        return f'a sparse tensor ({value.layout})'
    if own.is_floating_point() and (value.is_quantized or not value.is_floating_point()):
        return f'numbers of {value.dtype}'
    return ''


def _drop_absent_parts(renamed: Renamed, clip: DenseCLIP) -> None:
    """Leave out text and logit tensors that the model has no place for."""
    absent = [] if clip.text is not None else ['text.']
    absent += [name for name in LOGIT_PARAMETERS if getattr(clip, name) is None]
    for part in absent:
        keys = [key for key in renamed.state if key.startswith(part)]
        for key in keys:
            del renamed.state[key]
        if keys:
            renamed.ignored[f'{part}*, which this model does not have'] += len(keys)


def _resize_position_embedding(state: State, clip: DenseCLIP, source: State) -> None:
    """Resize the vision tower's position embedding to its native grid, by the tower's own rule."""
    visual = clip.visual
    grid = (visual.native_size[0] // visual.patch_size, visual.native_size[1] // visual.patch_size)
    for key, new in clip.state_dict().items():
        ours = key.startswith('visual.') and key.endswith(('pos_embed', 'positional_embedding'))
        if not ours or key not in state:
            continue
        old = _stored_position(state[key], source)
        num_prefix = new.shape[-2] - grid[0] * grid[1]
        check_grid(key, old, new, num_prefix)
        if old.shape[-2] in (new.shape[-2], grid[0] * grid[1]):
            continue
        side = math.isqrt(old.shape[-2])
        patches = old.reshape(1, *old.shape[-2:])[:, -side * side :]
        patches = resize_position(patches, (side, side), grid, visual.position_interpolation)
        prefix = state[key].reshape(1, *state[key].shape[-2:])[:, :num_prefix]
        state[key] = torch.cat((prefix, patches), dim=1).reshape(new.shape)
        print_log(f'{key}: position embedding resized to the grid {grid[0]} x {grid[1]}', 'current')


def _stored_position(position: Tensor, source: State) -> Tensor:
    """Return a position embedding as the file has it: timm's filters resize by their own rule."""
    if any(position is tensor for tensor in source.values()):
        return position
    keys = [k for k in source if k.endswith('pos_embed') or k == 'visual.positional_embedding']
    return source[keys[0]] if len(keys) == 1 else position


def _reshape_scalars(state: State, clip: DenseCLIP) -> None:
    """Give logit scale and bias the model's shape: some files keep ``(1,)``, others a scalar."""
    for name in LOGIT_PARAMETERS:
        parameter = getattr(clip, name)
        if name not in state or state[name].shape == parameter.shape:
            continue
        if state[name].numel() == 1:
            state[name] = state[name].reshape(parameter.shape)


def _log_table(
    path: str | Path, layout: str, source: State, renamed: Renamed, kept: Iterable[str]
) -> None:
    """Log groups of keys, file to model, with counts, and what was left out or kept as it was."""
    origin = {id(tensor): key for key, tensor in source.items()}
    moves = Counter(
        (group_of(origin[id(tensor)]) if id(tensor) in origin else '(converted)', group_of(key))
        for key, tensor in renamed.state.items()
    )
    lines = [f'{path}: {layout} layout, {len(renamed.state)} tensors loaded']
    lines += [f'  {n:5d}  {old} -> {new}' for (old, new), n in moves.items()]
    lines += [f'  {n:5d}  left out: {reason}' for reason, n in renamed.ignored.items()]
    lines += [f'         not in the file, kept as initialised: {key}' for key in kept]
    print_log('\n'.join(lines), 'current')
