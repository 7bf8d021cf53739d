"""Ways to spoil bytes and json, drawn from a generator."""

from __future__ import annotations

import copy
import json
from typing import Any

import numpy as np

Generator = np.random.Generator

_VALUES: tuple[Any, ...] = (
    *(None, '', 'text', -1, 0, 1.5, 10**12, float('nan'), float('inf'), True),
    *([], {}, [1], ['a'], {'a': 1}, 'x' * 3000, '\x00', '\ud800', '../../x'),
)
_FOREIGN = {
    'a web page': b'<!DOCTYPE html><html><body>404</body></html>',
    'a Git LFS pointer': b'version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n',
    'zeros': bytes(2000),
    'nothing': b'',
    'random bytes': bytes(np.random.default_rng(0).integers(0, 256, 2000, dtype=np.uint8)),
}


def pick(rng: Generator, choices: Any) -> Any:
    """One of a sequence."""
    choices = list(choices)
    return choices[int(rng.integers(len(choices)))]


def cut(content: bytes, rng: Generator) -> bytes:
    """The first bytes, one or more lost."""
    return content[: int(rng.integers(len(content)))]


def flip(content: bytes, rng: Generator, start: int = 0, stop: int | None = None) -> bytes:
    """One to eight bits flipped between two places."""
    spoilt = bytearray(content)
    for place in rng.integers(start, len(content) if stop is None else stop, rng.integers(1, 9)):
        spoilt[place] ^= 1 << int(rng.integers(8))
    return bytes(spoilt)


def spoil(content: bytes, rng: Generator) -> tuple[str, bytes]:
    """Spoil a file; returns what was done, and the bytes. 'whole' is one of the ways."""
    way = pick(rng, ['whole', 'cut', 'cut', 'cut', 'flipped', 'flipped', 'doubled', *_FOREIGN])
    if way in _FOREIGN:
        return way, _FOREIGN[way]
    if way == 'cut':
        return way, cut(content, rng)
    if way == 'flipped':
        return way, flip(content, rng)
    return way, content * 2 if way == 'doubled' else content


def spoil_json(content: Any, rng: Generator) -> tuple[str, bytes]:
    """Spoil one place of a json, or its bytes."""
    if rng.random() < 0.25:
        return spoil(json.dumps(content).encode(), rng)
    content = copy.deepcopy(content)
    owner, key = _place(content, rng)
    way = pick(rng, ['removed', 'twice', *['another value'] * 4])
    where = f'{key!r}'
    if way == 'removed':
        del owner[key]
    elif way == 'twice' and isinstance(owner, list):
        owner.insert(key, copy.deepcopy(owner[key]))
    else:
        value = pick(rng, _VALUES)
        way, owner[key] = f'{str(value)[:12]!r} for', value
    encoding = pick(rng, ['utf-8', 'utf-8', 'utf-8-sig', 'utf-16'])
    return f'{way} {where}', json.dumps(content).encode(encoding)


def _place(content: Any, rng: Generator) -> tuple[Any, Any]:
    """An entry at any depth: its owner and its key."""
    owner = content
    while True:
        key = pick(rng, owner if isinstance(owner, dict) else range(len(owner)))
        inner = owner[key]
        if not isinstance(inner, dict | list) or not inner or rng.random() < 0.15:
            return owner, key
        owner = inner
