"""Pickles that would make a folder, in every format that is read: none may."""

from __future__ import annotations

import json
import os
import pickle
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.runner.checkpoint import load_checkpoint

from refineclip.commands.steps import Step, run_steps
from refineclip.datasets.proposals import load_proposals
from refineclip.datasets.vocabularies import as_vocabulary
from refineclip.distill.hooks.resume_check_hook import read_config
from refineclip.encoders.build import build_clip
from refineclip.encoders.text.embedder import load_text_embeddings
from refineclip.encoders.text.text_head import TextHead
from refineclip.encoders.weights.checkpoint_file import read_checkpoint
from refineclip.encoders.weights.checkpoint_guard import load_local_checkpoint
from refineclip.encoders.weights.loading import load_submodule
from refineclip.encoders.weights.whole_files import read_cached

from .verdicts import Case, Outcome, Verdict, judge
from .weight_files import TOWER


class Canary:
    """Makes a folder when it is unpickled."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.folder),)


def _torch(path: Path, canary: Canary) -> None:
    torch.save(dict(state_dict=dict(a=torch.ones(2)), meta=canary), path)


def _legacy(path: Path, canary: Canary) -> None:
    torch.save(dict(a=canary), path, _use_new_zipfile_serialization=False)


def _bare(path: Path, canary: Canary) -> None:
    path.write_bytes(pickle.dumps(canary, protocol=2))


def _script(path: Path, canary: Canary) -> None:
    with zipfile.ZipFile(path, 'w') as archive:
        archive.writestr('a/data.pkl', pickle.dumps(canary, protocol=2))
        archive.writestr('a/constants.pkl', b'')


def _arrays(path: Path, canary: Canary) -> None:
    with path.open('wb') as file:
        np.savez(file, a=np.array([canary], dtype=object))


def _array(path: Path, canary: Canary) -> None:
    np.save(path, np.array([canary], dtype=object))


def _nested(path: Path, canary: Canary) -> None:
    """Within a piece of a list, in an optimizer, where it is met late."""
    content = dict(state_dict={}, meta={}, optimizer=dict(param_groups=[dict(x=[canary])]))
    torch.save(content, path)


def _demo(path: Path) -> Any:
    from rich.console import Console

    step = Step(path.stem, int, ())
    return run_steps([step], 1, Console(quiet=True), path.parent)


_WRITERS = (_torch, _legacy, _bare, _script, _arrays, _array, _nested)
READERS: dict[str, tuple[str, Callable[[Path], Any]]] = {
    'weights': ('a.pth', read_checkpoint),
    'pretrained': ('a.pt', lambda path: build_clip(TOWER, str(path), text=False)),
    'pretrained .bin': ('a.bin', lambda path: build_clip(TOWER, str(path), text=False)),
    'a Refiner': ('a.pth', lambda path: load_submodule(torch.nn.Linear(1, 1), path, 'refiner.')),
    'load_from, --resume': ('iter_1.pth', lambda path: load_local_checkpoint(str(path))),
    'init_cfg': ('a.pth', lambda path: load_checkpoint(torch.nn.Linear(1, 1), str(path))),
    'caches': ('a.safetensors', read_cached),
    'text embeddings .pt': ('a.pt', load_text_embeddings),
    'text embeddings .npy': ('a.npy', load_text_embeddings),
    'text embeddings .safetensors': ('a.safetensors', load_text_embeddings),
    'text head': ('a.safetensors', TextHead.load),
    'proposals': ('a.json', load_proposals),
    'names': ('a.txt', lambda path: as_vocabulary(path)),
    'steps of the demo': ('a.pt', _demo),
}


def run_canaries(folder: Path) -> Iterator[Outcome]:
    """Put every kind of pickle where each reader looks."""
    for name, (file, read) in READERS.items():
        for write in _WRITERS:
            own = folder / f'{name}{write.__name__}'.replace('/', '_')
            own.mkdir(parents=True)
            made = own / 'made'
            write(own / file, Canary(made))
            # np.save appends its own suffix.
            if not (own / file).exists():
                (own / f'{file}.npy').rename(own / file)
            path = own / file
            case = Case(write.__name__[1:], lambda r=read, p=path: r(p), _hatched(made))
            outcome = judge(name, case)
            if made.exists():
                outcome = Outcome(name, case.name, Verdict.WRONG, 'the pickle was run')
            yield outcome
    yield _stored_config(folder)


def _stored_config(folder: Path) -> Outcome:
    """``meta['config']``, which ``Runner.resume`` runs as Python, and ``meta['cfg']``."""
    made = folder / 'made_by_config'
    text = f'import os\nos.mkdir({json.dumps(str(made))})\n'
    path = folder / 'iter_2.pth'
    torch.save(dict(meta=dict(config=text, cfg=text), state_dict={}, optimizer={}), path)

    def read() -> Any:
        meta = load_local_checkpoint(str(path))['meta']
        read_config(meta['cfg'])
        return meta

    wrong = lambda meta: 'config is handed on' if 'config' in meta else _hatched(made)(meta)  # noqa: E731
    return judge('config in a checkpoint', Case('python', read, wrong))


def _hatched(made: Path) -> Callable[[Any], str]:
    return lambda _: 'the pickle was run' if made.exists() else ''
