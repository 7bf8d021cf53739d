"""The embedded default of the page: the drawn world, its tiny CLIP, and rows refined from it."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image

from refineclip.datasets.microworld import NAMED_KINDS, SCENES, Microworld
from refineclip.datasets.microworld.vocabulary import NAMES
from refineclip.encoders.sources import ASSETS

from ..demo.claims import FROZEN, R_SC_RLA, REFINER, RLA, SC_RLA
from ..demo.command import MARKER
from ..demo.runs import RUNS
from ..demo.training import config_file

# The page opens on the first image of three things in a street that all have names.
FIRST = 33
MODEL, WEIGHTS, TEMPLATES = 'microworld-clip', 'shipped', 'a {}'
IMAGE_SIZE = 128
WORDS = (*NAMES, *SCENES)
SHOWN = (REFINER, RLA, SC_RLA, R_SC_RLA)
# Seed 0 of the demo; its README says how they were made.
SHIPPED_ROWS = {
    row: ASSETS / 'microworld-refined' / f'{RUNS[row]}.safetensors'
    for row in (REFINER, RLA, R_SC_RLA)
}


def rows(demo: Path, shipped: Mapping[str, Path] = SHIPPED_ROWS) -> dict[str, str]:
    """Rows of the world: the frozen CLIP, and what was trained from it.

    Args:
        demo: Folder of the demo; one that was run with ``--quick`` has nothing worth a look.
        shipped: Row -> file, for the rows that the demo did not train.
    """
    found = {FROZEN: WEIGHTS}
    for row in SHOWN:
        pattern = 'iter_*.pth' if row == REFINER else 'refined_iter_*.pth'
        if path := _last(demo, RUNS[row], pattern) or shipped.get(row):
            found[row] = str(path)
    return found


def detectors(demo: Path) -> dict[str, tuple[Path, Path]]:
    """Name -> config and checkpoint of the detectors that the long demo trained."""
    found = {}
    for row in (FROZEN, *SHOWN):
        method = f'fvit_{"frozen" if row == FROZEN else RUNS[row]}'
        if path := _last(demo, method, 'iter_*.pth'):
            found[f'F-ViT on {row}'] = (config_file('fvit'), path)
    return found


def samples(count: int) -> list[tuple[str, Image.Image]]:
    """Captions and images of the split that the demo reports on: the one to open on, the first."""
    world = Microworld('val')
    others = [index for index in range(count) if index != FIRST]
    scenes = [world[index] for index in (FIRST, *others)[:count]]
    return [(scene.caption, Image.fromarray(scene.image)) for scene in scenes]


def first_words() -> tuple[str, ...]:
    """What the image that the page opens with shows, as far as it has a name."""
    scene = Microworld('val')[FIRST]
    kinds = [NAMES[kind] for kind in dict.fromkeys(scene.kinds) if kind < NAMED_KINDS]
    return (*kinds, SCENES[scene.scene])


def first_point() -> tuple[float, float]:
    """Middle of the first object of the image that the page opens with."""
    instances = Microworld('val')[FIRST].instances
    down, across = (instances == 1).nonzero()
    return float(across.mean() / instances.shape[1]), float(down.mean() / instances.shape[0])


def _last(demo: Path, method: str, pattern: str) -> Path | None:
    """Checkpoint of the last iteration of the first seed."""
    try:
        if json.loads((demo / MARKER).read_text())['quick']:
            return None
    except (OSError, ValueError, KeyError):
        return None
    folders: Sequence[Path] = sorted((demo / 'runs').glob(f'{method}_seed*'))
    files = [path for folder in folders[:1] for path in folder.glob(pattern)]
    return max(files, key=lambda path: int(re.sub(r'\D', '', path.stem)), default=None)
