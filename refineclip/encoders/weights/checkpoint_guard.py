"""Whoever loads a checkpoint into a model of ours: it fills the model, and none of it runs.

mmengine's loaders only warn of keys that do not fit, and would go on with random weights; and they
fall back to unpickling what ``weights_only=True`` refuses. Runner (``load_from``, ``resume``),
``init_cfg``, inferencers, ``tools`` and mim all come through here.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from pathlib import Path
from typing import Any

import torch
from mmengine.runner.checkpoint import CheckpointLoader
from torch import Tensor, nn

from .checkpoint_file import read_content
from .loading import unlike_weights
from .renamed_state import computed_pattern

_NUM_NAMED = 3
# Start of a key, what such a file is, and what to do with it. The first that is found counts.
_KINDS = (
    (
        'sem_seg_head.predictor.',
        'a published CAT-Seg',
        'convert it with tools/convert/catseg.py',
    ),
    ('backbone.interpolate1.', 'a published F-ViT', 'convert it with tools/convert/fvit.py'),
    (
        'encoder.refiner.',
        'a checkpoint of stage 1 (RefinerTraining)',
        "its Refiner goes into model.refiner.checkpoint of stage 2, or a backbone's "
        'refiner.checkpoint',
    ),
    (
        'student.visual.',
        'a checkpoint of stage 2 (RegionAlignment)',
        'the refined_*.pth beside it goes into {encoder}.init_cfg.checkpoint',
    ),
    ('decode_head.', 'a checkpoint of a segmentor', 'take the config that it was trained with'),
    ('roi_head.', 'a checkpoint of a detector', 'take the config that it was trained with'),
    (
        'visual.model.',
        'a backbone alone (refined_*.pth)',
        'it goes into {encoder}.init_cfg.checkpoint',
    ),
    (
        'visual.',
        'weights of a CLIP library',
        'they go into {encoder}.pretrained',
    ),
)


@CheckpointLoader.register_scheme(prefixes='', force=True)
def load_local_checkpoint(filename: str, map_location: Any = None) -> Any:
    """Read a local checkpoint for mmengine, running no code from it.

    mmengine 0.10.7 calls ``torch.load`` with torch's default, which since 2.6 refuses the records
    of mmengine's own checkpoints; the classes they need are allowed here, and no others.

    Args:
        filename: The file; safetensors are read as well.
        map_location: As in :func:`torch.load`.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it cannot be read, could run code, or holds no tensors by name.
    """
    content = read_content(Path(filename).expanduser(), map_location)
    if isinstance(content, dict) and isinstance(content.get('meta'), dict):
        # Of old versions; ``Runner.resume`` would run it as Python for the number of its GPUs.
        content['meta'].pop('config', None)
    state = content.get('state_dict', content) if isinstance(content, Mapping) else content
    if not isinstance(state, Mapping):
        raise ValueError(
            f'expected a checkpoint with tensors by name in {filename}, got a '
            f'{type(state).__name__} in their place'
        )
    return content


def require_whole_checkpoint(model: nn.Module) -> None:
    """Make a model refuse checkpoints that do not fill it, however they are loaded.

    Computed buffers may be there or not. Parts of a model are loaded through the parts: a
    backbone's ``init_cfg``, say, or ``model.backbone.load_state_dict``.

    Args:
        model: Gets a hook that stays, in copies as well.
    """
    # Older name of what torch 2.5 made public.
    model._register_load_state_dict_pre_hook(_check, with_module=True)


def _turn_into_tensors(state: MutableMapping[str, Any], prefix: str) -> None:
    """Replace arrays and numbers, which mmengine would leave out with a line in the log."""
    for key, value in state.items():
        if isinstance(value, Tensor) or not key.startswith(prefix):
            continue
        try:
            state[key] = torch.as_tensor(value)
        except (TypeError, ValueError, RuntimeError) as error:
            raise ValueError(
                f'expected tensors in a checkpoint, got a {type(value).__name__} as {key}'
            ) from error


def _check(model: nn.Module, state: MutableMapping[str, Any], prefix: str, *_: Any) -> None:
    _turn_into_tensors(state, prefix)
    own = {prefix + name: tensor for name, tensor in model.state_dict().items()}
    # Buffers that are there in some versions of the libraries, as in mmengine's own loader.
    optional = ('num_batches_tracked',)
    missing = [
        key
        for key in own
        if key not in state and computed_pattern(key) is None and not key.endswith(optional)
    ]
    unexpected = [
        key
        for key in state
        if key.startswith(prefix) and key not in own and computed_pattern(key) is None
    ]
    shapes = [
        f'{key} {tuple(state[key].shape)} in place of {tuple(tensor.shape)}'
        for key, tensor in own.items()
        if key in state and state[key].shape != tensor.shape
    ]
    kinds = [
        f'{key}: {kind}'
        for key, tensor in own.items()
        if key in state and (kind := unlike_weights(state[key], tensor))
    ]
    counts = [
        f'{len(found)} {what} (first: {", ".join(found[:_NUM_NAMED])})'
        for found, what in (
            (missing, f'of {len(own)} tensors missing'),
            (unexpected, 'unexpected'),
            (shapes, 'of other shapes'),
            (kinds, 'of other kinds'),
        )
        if found
    ]
    if counts:
        what, advice = _describe(model, own, state, prefix)
        part = f'{type(model).__name__}{f" ({prefix}*)" if prefix else ""}'
        raise ValueError(
            f'expected a checkpoint that fills this {part}, got {what} with {"; ".join(counts)}. '
            f'{advice[0].upper()}{advice[1:]}'
        )


def _describe(
    model: nn.Module, own: Mapping[str, Tensor], state: Mapping[str, Tensor], prefix: str
) -> tuple[str, str]:
    """Say what a file is, by its keys, and what to do with it."""
    if prefix and not any(key.startswith(prefix) for key in state):
        return (  # the loader of the whole model hands on the keys of this part only
            f'a file without {prefix}*',
            'the backbone alone (refined_*.pth) goes into '
            f'{_encoder_key(model, prefix)}.init_cfg.checkpoint',
        )
    for start, what, advice in _KINDS:
        if not any(key.startswith(start) for key in state):
            continue
        if any(key.startswith(start) for key in own):
            break  # of this kind of model, only another one
        return what, advice.format(encoder=_encoder_key(model, prefix))
    return (
        'one of another model',
        'is it another tower size, method or config? Take the config that it was trained with',
    )


def _encoder_key(model: nn.Module, prefix: str) -> str:
    """Config key of the encoder in a model."""
    if hasattr(model, 'visual'):
        return f'model.{prefix}'.removesuffix('.')
    names = [name for name, child in model.named_children() if hasattr(child, 'visual')]
    return f'model.{names[0] if names else "backbone"}'
