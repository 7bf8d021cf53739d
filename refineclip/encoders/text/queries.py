"""From class names to the texts that pixels are compared with, background included."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

BACKGROUND = 'background'
# Names of published data sets that nobody says: VOC and Context, COCO-Stuff and COCO panoptic. The
# list is closed: 'ceiling-fan' in somebody's own vocabulary is no ceiling.
_READABLE = {
    'diningtable': 'dining table',
    'pottedplant': 'potted plant',
    'tvmonitor': 'tv monitor',
    'playingfield': 'playing field',
    'window-blind': 'window blind',
    'ceiling-tile': 'tile ceiling',
    **{
        f'{head}-{material}': f'{material} {head}'
        for head, materials in {
            'floor': ('marble', 'stone', 'tile', 'wood'),
            'wall': ('brick', 'concrete', 'panel', 'stone', 'tile', 'wood'),
        }.items()
        for material in materials
    },
    **{f'{name}-stuff': name for name in ('desk', 'door', 'mirror')},
    **{
        f'{name}-other': name
        for name in (
            *('building', 'ceiling', 'floor', 'food', 'furniture', 'ground', 'plant', 'sky'),
            *('solid', 'structural', 'textile', 'wall', 'water', 'window'),
        )
    },
    **{
        f'{name}-merged': name
        for name in (
            *('cabinet', 'ceiling', 'dirt', 'fence', 'grass', 'mountain', 'paper', 'pavement'),
            *('rock', 'rug', 'table', 'tree'),
        )
    },
    **{f'{name}-other-merged': name for name in ('building', 'floor', 'food', 'sky', 'wall')},
}


def readable_name(name: str) -> str:
    """Write a published data set's name of a class as one would say it.

    ``'diningtable'`` becomes ``'dining table'``, COCO's ``'sky-other'`` becomes ``'sky'``,
    ``'wall-brick'`` becomes ``'brick wall'``. Any name that is none of theirs stays.
    """
    name = name.strip()
    return _READABLE.get(name, name)


@dataclass(frozen=True)
class Queries:
    """Q texts, each for one of C classes.

    Attributes:
        texts: Q texts.
        owner: Class index of each text.
        num_classes: C.
        background: Index of the background class, None where the vocabulary has none.
    """

    texts: tuple[str, ...]
    owner: tuple[int, ...]
    num_classes: int
    background: int | None


def make_queries(
    names: Sequence[str],
    synonyms: str = 'max',
    background_names: Sequence[str] = (),
    threshold: bool = False,
    readable: bool = True,
) -> Queries:
    """Lay out the texts of a vocabulary.

    Args:
        names: C class names; synonyms of one class are separated by ``;``.
        synonyms: ``'max'`` compares with each synonym by itself; ``'mean'`` leaves them in one
            text, whose embeddings are averaged.
        background_names: What the class named 'background' is compared with. Names that are classes
            themselves are left out: VOC's background holds sky, Context's does not.
        threshold: Unlikely pixels become background; then it needs no text.
        readable: Write names of published data sets as one would say them, see
            :func:`readable_name`.

    Raises:
        ValueError: If there is no name, one is empty, or ``synonyms`` is unknown.
    """
    if isinstance(names, str):
        raise ValueError(f'expected a list of class names, got the text {names!r}')
    if synonyms not in ('max', 'mean'):
        raise ValueError(f"synonyms: expected 'max' or 'mean', got {synonyms!r}")
    parts = [[part.strip() for part in name.split(';') if part.strip()] for name in names]
    if not parts or not all(parts):
        raise ValueError(
            f'expected one class name or more, none of them empty, got {list(names)[:5]}'
        )
    if readable:
        parts = [[readable_name(part) for part in group] for group in parts]
    titles = [group[0].lower() for group in parts]
    background = titles.index(BACKGROUND) if BACKGROUND in titles else None
    if background is not None:
        words = {part for group in parts for part in group}
        own = parts[background][1:] + [one for one in background_names if one not in words]
        if not own and not threshold:
            own = [BACKGROUND]
        parts[background] = own
    texts, owner = [], []
    for index, group in enumerate(parts):
        # Background is many things, which have no mean.
        groups = group if synonyms == 'max' or index == background else [';'.join(group)]
        texts += groups
        owner += [index] * len(groups)
    if not texts:
        raise ValueError(f'expected a class beside the background, got {list(names)}')
    return Queries(tuple(texts), tuple(owner), len(parts), background)
