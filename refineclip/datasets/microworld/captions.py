"""English captions of drawn images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .vocabulary import COUNTS, KINDS, NAMED_KINDS, PLACES, SCENES

# Shares of the named kinds in sight that a caption mentions, of single things whose colour it
# says, and of captions that say the place.
MENTIONED = 0.9
COLOURED = 0.3
PLACED = 0.5


def caption(
    rng: np.random.Generator, kinds: Sequence[int], colours: Sequence[str], scene: int
) -> str:
    """Say what is in an image, e.g. ``'a red boat and two birds at sea'``.

    Args:
        rng: Decides what is said and in which order.
        kinds: Kinds of the things in sight, named or not.
        colours: Main colour of each.
        scene: Index into ``SCENES``.
    """
    found = list(dict.fromkeys(kind for kind in kinds if kind < NAMED_KINDS))
    found = [found[position] for position in rng.permutation(len(found))]
    said = [kind for kind in found if rng.random() < MENTIONED] or found[:1]
    phrases = [_phrase(rng, kind, kinds, colours) for kind in said]
    place = PLACES[SCENES[scene]]
    if not phrases:
        return place
    text = ' and '.join(filter(None, [', '.join(phrases[:-1]), phrases[-1]]))
    return f'{text} {place}' if rng.random() < PLACED else text


def _phrase(
    rng: np.random.Generator, kind: int, kinds: Sequence[int], colours: Sequence[str]
) -> str:
    count = list(kinds).count(kind)
    if count > 1:
        return f'{COUNTS[count - 2]} {KINDS[kind].plural}'
    words = [KINDS[kind].name]
    if rng.random() < COLOURED:
        words.insert(0, colours[list(kinds).index(kind)])
    article = 'an' if words[0][0] in 'aeiou' else 'a'
    return ' '.join([article, *words])
