"""Hostile weight files, loaded into a toy tower."""

from __future__ import annotations

from collections import defaultdict
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor

from refineclip.datasets.coco_panoptic import CocoPanoptic
from refineclip.distill.region_preprocessor import RegionPreprocessor
from refineclip.encoders.build import build_clip
from refineclip.evaluation import PanopticEvaluation, load_encoders

from .annotations import drawn
from .spoiling import Generator, cut, flip, pick, spoil
from .verdicts import Case

TOWER = dict(
    embed_dim=8,
    vision_cfg=dict(image_size=16, layers=2, width=16, head_width=8, patch_size=8),
)
State = dict[str, Any]


@cache
def _weights() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return {
        f'visual.{k}': v for k, v in build_clip(TOWER, text=False).visual.model.state_dict().items()
    }


def _nan(state: State, key: str) -> None:
    state[key] = torch.full_like(state[key], float('nan'))


def _set(value: Any) -> Any:
    return lambda state, key: state.__setitem__(key, value)


_RECORD = np.zeros(2, dtype=[('a', 'f4'), ('b', 'i8')])
# What is done to one tensor, and whether the weights are then still those that were meant.
_CHANGES: dict[str, tuple[Any, bool]] = {
    'lost': (lambda state, key: state.pop(key), False),
    'of another shape': (lambda state, key: state.__setitem__(key, state[key][..., :1]), False),
    'of int8': (lambda state, key: state.__setitem__(key, state[key].to(torch.int8)), False),
    'complex': (lambda state, key: state.__setitem__(key, state[key] * 1j), False),
    'sparse': (lambda state, key: state.__setitem__(key, state[key].to_sparse()), False),
    'on meta': (lambda state, key: state.__setitem__(key, state[key].to('meta')), False),
    'a text': (_set('weights'), False),
    'None': (_set(None), False),
    'as it was': (lambda state, key: None, True),
    'in float64': (lambda state, key: state.__setitem__(key, state[key].double()), True),
    'an array': (lambda state, key: state.__setitem__(key, state[key].numpy()), False),
    'beside a record': (lambda state, _: state.__setitem__('log', _RECORD), True),
    'beside a defaultdict': (lambda s, _: s.__setitem__('log', defaultdict(list, a=[1])), True),
    'beside another': (lambda state, _: state.__setitem__('visual.x', torch.ones(2)), False),
}


def weights_case(rng: Generator, folder: Path, index: int) -> Case:
    """A weight file of torch or safetensors with its bytes, or one of its tensors, spoilt."""
    state: State = dict(_weights())
    path = folder / f'weights_{index}{pick(rng, [".pt", ".pth", ".bin", ".safetensors"])}'
    if rng.random() < 0.1:
        return _nan_case(rng, folder, path, state)
    if rng.random() < 0.5:
        way, fine = pick(rng, _CHANGES), True
        change, fine = _CHANGES[way]
        change(state, pick(rng, [k for k in state if state[k].numel() > 1]))
        file = BytesIO()
        torch.save(dict(state_dict=state) if rng.random() < 0.5 else state, file)
        path.write_bytes(file.getvalue())
        return _case(f'tensor {way}', path, fine)
    if rng.random() < 0.3:
        content = save(state)
        # Nothing in the format can tell of flipped bits among the numbers.
        end = 8 + int.from_bytes(content[:8], 'little')
        spoilt = cut(content, rng) if rng.random() < 0.5 else flip(content, rng, 0, end)
        path.write_bytes(spoilt)
        return _case('safetensors cut or flipped', path, fine=True)
    file = BytesIO()
    torch.save(state, file, _use_new_zipfile_serialization=rng.random() < 0.8)
    legacy = not file.getvalue().startswith(b'PK')
    way, spoilt = spoil(file.getvalue(), rng)
    if legacy and way == 'flipped':  # nor in this one
        way, spoilt = 'cut', cut(file.getvalue(), rng)
    path.write_bytes(spoilt)
    return _case(f'{"legacy " if legacy else ""}torch file {way}', path, fine=True)


def _case(name: str, path: Path, fine: bool) -> Case:
    def wrong(found: dict[str, Tensor]) -> str:
        equal = all(torch.equal(found[f'visual.model.{k[7:]}'], v) for k, v in _weights().items())
        if not equal:
            return 'other weights than were saved'
        return '' if fine else 'a file that does not fit was taken'

    return Case(name, lambda: build_clip(TOWER, str(path), text=False).state_dict(), wrong)


def _nan_case(rng: Generator, folder: Path, path: Path, state: State) -> Case:
    """NaN in a tensor that decides the map: no measure and no label may come of it."""
    _nan(state, pick(rng, [key for key in state if 'resblocks.0' in key or 'ln_pre' in key]))
    torch.save(state, path)
    root = drawn(folder)

    def read() -> Any:
        preprocessor = RegionPreprocessor([127.5] * 3, [63.75] * 3, 32, 32, 'squash', 'squash')
        data = PanopticEvaluation(CocoPanoptic(root, 'val'), preprocessor, 8)
        return data.maps_of(load_encoders(dict(nan=str(path)), TOWER))

    return Case('tensor of NaN', read, lambda found: f'maps of {list(found)} out of NaN')
