"""Hostile inputs by kind and seed, through the readers that users meet."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from . import annotations, images, settings, vocabularies, weight_files
from .spoiling import Generator
from .verdicts import Case, Outcome, judge

KINDS: dict[str, Callable[[Generator, Path, int], Case]] = {
    'images': images.image_case,
    'panoptic': annotations.panoptic_case,
    'instances': annotations.instances_case,
    'lvis': annotations.lvis_case,
    'captions': annotations.captions_case,
    'proposals': annotations.proposals_case,
    'vocabularies': vocabularies.vocabulary_case,
    'weight files': weight_files.weights_case,
    'configs': settings.config_case,
    'options': settings.option_case,
    'command lines': settings.command_case,
}
_NEEDS_MMDET = ('instances', 'lvis')


def run_inputs(folder: Path, number: int, seed: int, kinds: Sequence[str]) -> Iterator[Outcome]:
    """Judge so many inputs, the kinds in turn.

    Args:
        folder: Where the files go.
        number: How many.
        seed: An input is a function of it, its kind and its number.
        kinds: Some of ``KINDS``; those that need mmdet are left out where it is not installed.
    """
    installed = find_spec('mmdet') is not None
    kinds = [kind for kind in kinds if installed or kind not in _NEEDS_MMDET]
    for index in range(number):
        kind = kinds[index % len(kinds)]
        rng = np.random.default_rng((seed, list(KINDS).index(kind), index))
        yield judge(kind, KINDS[kind](rng, folder, index))
