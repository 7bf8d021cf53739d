"""Hostile configs and command lines."""

from __future__ import annotations

import copy
from functools import cache
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.registry import MODELS

import refineclip.distill  # noqa: F401  (registers)
from refineclip.__main__ import main as refineclip_main
from refineclip.commands.config_options import override

from .spoiling import Generator, pick
from .verdicts import ROOT, Case

_CONFIG = ROOT / 'configs' / 'distill' / 'toy' / 'r-sc-rla_vit-toy_1xb2-4i_photos.py'
_NUMBERS = (0, -1, 97, float('nan'), 0.5)
_TEXTS = ('', 'no-such', '/no/such/file.pth', 'local-dir:/no/such', '2024', 'a b')
_WORDS = ('', ' ', '-1', 'nan', '/no/such', 'x' * 5000, '斑马', '{', '[1,', '=', 'a=b', '--', '-x')


@cache
def _model() -> dict[str, Any]:
    return Config.fromfile(_CONFIG).model.to_dict()


def config_case(rng: Generator, folder: Path, index: int) -> Case:
    """The model of a toy config with one setting spoilt: it is built, or refused."""
    del folder, index
    model = copy.deepcopy(_model())
    owner, key = model, pick(rng, model)
    while isinstance(owner[key], dict) and owner[key]:
        owner = owner[key]
        key = pick(rng, owner)
    value = owner[key]
    if isinstance(value, str):
        # mmengine has no words for the empty one.
        owner[key] = pick(rng, _TEXTS[1:] if key == 'type' else _TEXTS)
    elif isinstance(value, int | float):
        owner[key] = pick(rng, _NUMBERS)
    else:
        owner[key] = None
    name = f'{key}={owner[key]!r}'
    return Case(name, lambda: MODELS.build(Config(dict(model=model)).model), lambda _: '')


def command_case(rng: Generator, folder: Path, index: int) -> Case:
    """A command line that cannot be meant: an exit status that says so, and a sentence."""
    del index
    word = pick(rng, _WORDS)
    gone = str(folder / 'gone')
    lines = (
        [word or 'no-such'],
        ['evaluate', pick(rng, ['regions', 'spatial', 'image', 'x']), '--data', gone, word],
        ['evaluate', 'regions', '--data', gone, '--model', word, '--models', f'a={word}'],
        ['draw', 'pca', '--model', 'ViT-B-16', '--models', f'a={gone}', '--images', gone, word],
        ['segment', gone, '--texts', word, '--model', 'microworld-clip', '--out', gone],
        ['detect', gone, gone, gone, '--texts', word, '--out', gone],
        ['plan', f'{gone}.py', '--gpus', word],
        ['microworld', str(folder / 'world'), '--train', word],
        ['demo', '--seeds', word],
    )
    line = pick(rng, lines)

    def read() -> int:
        status = refineclip_main(line)
        if status:
            raise SystemExit(f'status {status}')
        return status

    return Case(f'{line[0][:12]} {word[:12]!r}', read, lambda status: f'exit status {status}')


def option_case(rng: Generator, folder: Path, index: int) -> Case:
    """``--cfg-options`` of any text: what was typed arrives, or it is refused."""
    del folder, index
    key = pick(rng, ['model.method', 'a.b', 'model', '', '.', 'model.rla.type.x', 'a..b'])
    text = ''.join(pick(rng, list('ab1.,[](){}"\' =-')) for _ in range(int(rng.integers(0, 9))))
    cfg = Config(dict(model=copy.deepcopy(_model())))

    def wrong(_: Any) -> str:
        found = cfg.model.get('method') if key == 'model.method' else None
        return '' if found is None or isinstance(found, str | list | dict | int) else f'{found!r}'

    return Case(f'{key}={text}', lambda: override(cfg, [f'{key}={text}']), wrong)
