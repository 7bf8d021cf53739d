"""Files that a later run reads again, cut at random bytes or written to a full disk."""

from __future__ import annotations

import resource
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from refineclip.datasets.coco_panoptic import CocoPanoptic
from refineclip.distill.feature_cache import FeatureCache
from refineclip.distill.region_batch import RegionBatch
from refineclip.distill.region_preprocessor import RegionPreprocessor
from refineclip.encoders.text.embedder import (
    TextEmbedder,
    load_text_embeddings,
    save_text_embeddings,
)
from refineclip.encoders.weights.checkpoint_guard import load_local_checkpoint
from refineclip.evaluation import PanopticEvaluation, load_encoders
from refineclip.evaluation.feature_store import FeatureStore

from .annotations import drawn
from .spoiling import cut
from .verdicts import Case, Outcome, Verdict, judge
from .weight_files import TOWER

_NAMES = ['zebra', 'horse']


@dataclass(frozen=True)
class Stored:
    """Something that is written once and read again.

    Attributes:
        use: Writes into a folder, or reads what is there; returns what it holds.
        made_anew: A file that is broken is made again; otherwise it is refused.
    """

    use: Callable[[Path], torch.Tensor]
    made_anew: bool


class _TextModel:
    """A text tower of two numbers."""

    def __init__(self) -> None:
        torch.manual_seed(0)
        self.text = torch.nn.EmbeddingBag(9, 6)

    @property
    def tokenizer(self) -> Callable[[list[str]], torch.Tensor]:
        """Lengths as tokens."""
        return lambda texts: torch.tensor([[len(text) % 9, 1] for text in texts])


def _text_cache(folder: Path) -> torch.Tensor:
    return TextEmbedder(_TextModel(), ['a {}'], folder).embed(_NAMES)


def _feature_cache(folder: Path) -> torch.Tensor:
    batch = RegionBatch(
        images=torch.zeros(2, 3, 8, 8),
        boxes=torch.zeros(2, 5),
        regions=torch.zeros(2, 4),
        cut_crops=None,
        crop_boxes=torch.zeros(2, 5),
        img_paths=['a', 'b'],
        img_ids=torch.arange(2),
        epochs=torch.zeros(2, dtype=torch.long),
    )
    cache = FeatureCache(str(folder), 'crops', dict(weights=1), per_region=False)
    return cache.fetch(batch, lambda part: torch.arange(600.0)[None].repeat(len(part.images), 1))


def _feature_store(folder: Path) -> torch.Tensor:
    preprocessor = RegionPreprocessor([127.5] * 3, [63.75] * 3, 32, 32, 'squash', 'squash')
    root = drawn(folder.parent)
    data = PanopticEvaluation(CocoPanoptic(root, 'val'), preprocessor, 8)
    encoders = load_encoders(dict(one='random'), TOWER)
    of_image = FeatureStore(folder).maps(data, encoders)
    return torch.stack([of_image(index)['one'].flatten() for index in range(len(data.dataset))])


def _checkpoint(name: str) -> Callable[[Path], torch.Tensor]:
    def use(folder: Path) -> torch.Tensor:
        path = folder / name
        if not path.exists():
            torch.save(dict(meta=dict(iter=1), state_dict=dict(a=torch.arange(600.0))), path)
        return load_local_checkpoint(str(path))['state_dict']['a']

    return use


def _embeddings(folder: Path) -> torch.Tensor:
    path = folder / 'classes.safetensors'
    if not path.exists():
        save_text_embeddings(path, torch.eye(2, 300), _NAMES)
    return load_text_embeddings(path, _NAMES)[0]


def _array(folder: Path) -> torch.Tensor:
    path = folder / 'classes.npy'
    if not path.exists():
        np.save(path, np.eye(2, 300, dtype=np.float32))
    return load_text_embeddings(path, _NAMES)[0]


STORED = {
    'text cache': Stored(_text_cache, made_anew=True),
    'feature cache': Stored(_feature_cache, made_anew=True),
    'feature store': Stored(_feature_store, made_anew=True),
    'checkpoint': Stored(_checkpoint('iter_1.pth'), made_anew=False),
    'refined weights': Stored(_checkpoint('refined_iter_1.pth'), made_anew=False),
    'text embeddings': Stored(_embeddings, made_anew=False),
    'npy of embeddings': Stored(_array, made_anew=False),
}


def run_truncations(folder: Path, number: int, seed: int) -> Iterator[Outcome]:
    """Cut a stored file at a random byte, and read."""
    rng = np.random.default_rng(seed)
    for index in range(number):
        name = list(STORED)[index % len(STORED)]
        stored, own = STORED[name], folder / f'cut_{index}'
        own.mkdir(parents=True)
        expected = stored.use(own)
        path = sorted(path for path in own.rglob('*') if path.is_file())[-1]
        content = path.read_bytes()
        path.write_bytes(cut(content, rng))
        where = f'cut to {path.stat().st_size} of {len(content)} bytes'
        case = Case(where, lambda s=stored, o=own: s.use(o), _equal(expected))
        outcome = judge(name, case)
        if stored.made_anew and outcome.verdict is Verdict.REFUSED:
            outcome = Outcome(name, where, Verdict.CRASHED, 'not made anew: ' + outcome.detail)
        yield outcome


def run_full_disk(folder: Path, number: int, seed: int) -> Iterator[Outcome]:
    """Let a write fail at a random byte; nothing half written may be read afterwards."""
    rng = np.random.default_rng(seed)
    caches = [name for name, stored in STORED.items() if stored.made_anew]
    for index in range(number):
        name = caches[index % len(caches)]
        use, own = STORED[name].use, folder / f'full_{index}'
        own.mkdir(parents=True)
        reference = folder / f'whole_{name}'
        reference.mkdir(exist_ok=True)
        expected = use(reference)
        size = max(path.stat().st_size for path in reference.rglob('*') if path.is_file())
        limit = int(rng.integers(size))
        failed = _fails(lambda u=use, o=own: u(o), limit)
        left = [path.name for path in own.rglob('*') if path.is_file() and 'tmp' in path.name]
        where = f'no file beyond {limit} of {size} bytes'
        if not failed or left:
            yield Outcome(name, where, Verdict.WRONG, f'failed: {failed}, left behind: {left}')
            continue
        yield judge(name, Case(where, lambda u=use, o=own: u(o), _equal(expected)))


def _fails(write: Callable[[], Any], limit: int) -> bool:
    """Whether a call raises while no file may grow beyond so many bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        write()
    except Exception:  # of the operating system, or of the library that writes
        return True
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    return False


def _equal(expected: torch.Tensor) -> Callable[[torch.Tensor], str]:
    return lambda found: '' if torch.equal(found, expected) else 'other numbers than were written'
