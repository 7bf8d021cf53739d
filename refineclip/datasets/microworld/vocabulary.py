"""What exists in the microworld: things, their colours, places, and which of them have names."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# RGB in [0, 1].
COLOURS = {
    'red': (0.84, 0.16, 0.14),
    'orange': (0.94, 0.52, 0.10),
    'yellow': (0.95, 0.83, 0.20),
    'green': (0.22, 0.62, 0.24),
    'teal': (0.12, 0.62, 0.64),
    'blue': (0.16, 0.36, 0.82),
    'purple': (0.50, 0.24, 0.68),
    'pink': (0.93, 0.52, 0.68),
    'brown': (0.48, 0.30, 0.17),
    'white': (0.95, 0.95, 0.92),
    'grey': (0.55, 0.56, 0.58),
    'black': (0.12, 0.12, 0.14),
}


@dataclass(frozen=True)
class Kind:
    """A kind of thing: an outline of parts, and the colours that it comes in.

    Attributes:
        name: Its noun in English.
        schemes: Colours of its parts, by the parts' numbers; the first is what a caption calls it.
    """

    name: str
    schemes: tuple[tuple[str, str, str], ...]

    @property
    def plural(self) -> str:
        """Noun for several of them."""
        return self.name if self.name == 'fish' else f'{self.name}s'


def _kind(name: str, *schemes: str) -> Kind:
    colours = [tuple(scheme.split()) for scheme in schemes]
    return Kind(name, tuple((first, second, third) for first, second, third in colours))


# No kind has a colour of its own, and each shares its colours with places and other kinds.
KINDS = (
    _kind('fish', 'orange white black', 'blue yellow white', 'grey red white'),
    _kind('boat', 'red white brown', 'blue yellow white', 'brown white red'),
    _kind('house', 'white red brown', 'yellow brown blue', 'red grey white'),
    _kind('tree', 'green brown teal', 'orange brown yellow', 'teal black green'),
    _kind('car', 'red teal black', 'blue white black', 'yellow grey brown'),
    _kind('cup', 'white blue red', 'green yellow white', 'purple pink yellow'),
    _kind('flower', 'pink yellow green', 'red orange green', 'white yellow teal'),
    _kind('mushroom', 'red white white', 'brown yellow orange', 'purple grey pink'),
    _kind('bird', 'blue orange white', 'brown yellow red', 'black grey orange'),
    _kind('kite', 'yellow red blue', 'purple green white', 'orange teal pink'),
    _kind('lamp', 'yellow brown black', 'pink white grey', 'green black brown'),
    _kind('key', 'yellow orange brown', 'grey black white', 'brown yellow red'),
    _kind('hat', 'black red white', 'brown orange yellow', 'purple yellow white'),
    _kind('star', 'yellow orange white', 'pink purple yellow', 'white blue grey'),
    _kind('cactus', 'green orange pink', 'teal brown red', 'black red yellow'),
    _kind('bell', 'yellow brown red', 'orange black white', 'grey blue purple'),
    _kind('umbrella', 'red yellow brown', 'blue white black', 'purple pink grey'),
    _kind('snail', 'brown pink orange', 'orange yellow green', 'teal grey purple'),
    _kind('rocket', 'white red orange', 'grey blue yellow', 'red yellow black'),
    _kind('balloon', 'red pink brown', 'blue teal white', 'green yellow orange'),
    _kind('chair', 'brown red black', 'white teal grey', 'green orange brown'),
    _kind('apple', 'red brown green', 'green brown yellow', 'yellow black teal'),
    _kind('moon', 'yellow white orange', 'white grey blue', 'grey teal white'),
    _kind('anchor', 'grey black red', 'black brown yellow', 'teal blue white'),
)
# The others are drawn, and no caption says their names.
NAMED_KINDS = 16
NAMES = tuple(kind.name for kind in KINDS[:NAMED_KINDS])
# Held out of the training of detectors and segmentors.
NOVEL_NAMES = NAMES[3::4]

# Places, and how a caption says them.
PLACES = {
    'sea': 'at sea',
    'meadow': 'in a meadow',
    'sand': 'on sand',
    'night': 'at night',
    'street': 'in a street',
    'snow': 'in snow',
}
SCENES = tuple(PLACES)
# Pairs of colours that the texture of each place is of.
SCENE_TONES = {
    'sea': (('blue', 'teal'), ('teal', 'grey')),
    'meadow': (('green', 'teal'), ('green', 'yellow')),
    'sand': (('yellow', 'orange'), ('brown', 'yellow')),
    'night': (('black', 'blue'), ('black', 'purple')),
    'street': (('grey', 'black'), ('brown', 'grey')),
    'snow': (('white', 'blue'), ('white', 'grey')),
}
# Things that a place mostly shows: what makes tokens of a CLIP take on their context.
_HOMES = {
    'sea': 'boat fish bird kite bell anchor umbrella moon',
    'meadow': 'tree flower mushroom bird kite house snail apple',
    'sand': 'cactus hat key cup star umbrella chair anchor',
    'night': 'star lamp house tree bell moon rocket balloon',
    'street': 'car house lamp hat cup key chair balloon',
    'snow': 'tree star mushroom car flower rocket apple snail',
}
_NUMBERS = {kind.name: number for number, kind in enumerate(KINDS)}
HOME_KINDS = np.array([[_NUMBERS[name] for name in _HOMES[scene].split()] for scene in SCENES])
HOME_SHARE = 0.8

# What stands for each named class in a caption, by the class names of the data set.
PROMPTS = {name: f'a {name}' for name in NAMES} | PLACES

COUNTS = ('two', 'three', 'four', 'five')
WORDS = tuple(
    dict.fromkeys(
        [
            *('a', 'an', 'and'),
            *COUNTS,
            *(word for place in PLACES.values() for word in place.split()),
            *COLOURS,
            *(word for kind in KINDS[:NAMED_KINDS] for word in (kind.name, kind.plural)),
        ]
    )
)
