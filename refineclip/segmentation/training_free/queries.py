"""From class names to the texts that pixels are compared with, background included."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

BACKGROUND = 'background'
# Words that the data sets' authors wrote in one.
_APART = {
    'diningtable': 'dining table',
    'pottedplant': 'potted plant',
    'tvmonitor': 'tv monitor',
    'playingfield': 'playing field',
}


def readable_name(name: str) -> str:
    """Write the name of a class as one would say it.

    ``'diningtable'`` becomes ``'dining table'``; COCO's endings go: ``'sky-other'`` is ``'sky'``,
    ``'door-stuff'`` is ``'door'``, ``'wall-brick'`` is ``'brick wall'``. Other names stay.
    """
    name = name.strip()
    if name.endswith(('-other', '-stuff', '-merged')):
        return readable_name(name.rpartition('-')[0])
    head, dash, material = name.partition('-')
    if dash and head in ('wall', 'floor', 'ceiling'):
        return f'{material} {head}'
    if dash and head == 'window':
        return f'{head} {material}'
    return _APART.get(name, name)


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
        readable: Write names as one would say them, see :func:`readable_name`.

    Raises:
        ValueError: If there is no name, one is empty, or ``synonyms`` is unknown.
    """
    if synonyms not in ('max', 'mean'):
        raise ValueError(f"synonyms: expected 'max' or 'mean', got {synonyms!r}")
    parts = [[part.strip() for part in name.split(';') if part.strip()] for name in names]
    if not parts or not all(parts):
        raise ValueError(
            f'expected one class name or more, none of them empty, got {list(names)[:5]}'
        )
    if readable:
        parts = [[readable_name(part) for part in group] for group in parts]
    titles = [group[0] for group in parts]
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
