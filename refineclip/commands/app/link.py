"""The view of a session as the query of an address, and back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any
from urllib.parse import urlencode


@dataclass(frozen=True)
class View:
    """What a page shows.

    Attributes:
        rows: Names of the rows that are shown.
        image: Place of the image in the gallery; None of an upload, which no link holds.
        second: Place of the second image; None without one.
        point: x and y in [0, 1] of the token.
        source: 0 or 1, the image that the token is in.
        mode: Dense mode.
        block: Block whose map is taken; None is the last.
        own_scale: Each panel has its own range of colours.
        words: Names, synonyms between ';'.
        synonyms: ``'mean'`` or ``'max'``.
        threshold: Probability below which pixels get no name.
    """

    rows: tuple[str, ...]
    image: int | None = 0
    second: int | None = None
    point: tuple[float, float] = (0.5, 0.5)
    source: int = 0
    mode: str = 'value'
    block: int | None = None
    own_scale: bool = False
    words: tuple[str, ...] = ()
    synonyms: str = 'mean'
    threshold: float = 0.0


@dataclass(frozen=True)
class Limits:
    """What a view can be: names of rows and modes, numbers of samples and blocks."""

    rows: Sequence[str]
    modes: Sequence[str]
    num_samples: int
    num_blocks: int


def to_query(view: View, default: View) -> str:
    """Query of an address; what is as in the default is left out."""
    pairs: list[tuple[str, str]] = []
    for field in fields(View):
        name, value = field.name, getattr(view, field.name)
        if value == getattr(default, name) or value is None:
            continue
        if name in ('rows', 'words'):
            pairs += [(name, one) for one in value] or [(name, '')]
        elif name == 'point':
            pairs.append((name, f'{value[0]:.4g},{value[1]:.4g}'))
        else:
            pairs.append((name, f'{value:g}' if isinstance(value, float) else str(value)))
    return urlencode(pairs)


def from_query(
    query: Mapping[str, Sequence[str]], default: View, limits: Limits
) -> tuple[View, list[str]]:
    """View of an address.

    Args:
        query: Key -> its values.
        default: What keys that are not there stand for.
        limits: What there is.

    Returns:
        The view, and a sentence for each key that could not be followed, which stays as in the
        default.
    """
    view, wrong = default, []
    for name, values in query.items():
        if name not in _READERS:
            continue  # the theme, or what a mail programme appends
        try:
            found: Any = _READERS[name](list(values), limits)
            view = replace(view, **{name: found})
        except ValueError as error:
            wrong.append(f'link: {name}: {error}')
    if view.source == 1 and view.second is None:
        view = replace(view, source=0)
    return view, wrong


def check_point(x: float, y: float) -> tuple[float, float]:
    """Return a point of an image.

    Raises:
        ValueError: If it lies outside, or is no number.
    """
    if not (0 <= x <= 1 and 0 <= y <= 1):
        raise ValueError(f'expected a point inside the image, got {x:.3g}, {y:.3g}')
    return x, y


def _rows(values: list[str], limits: Limits) -> tuple[str, ...]:
    found = tuple(one for one in values if one)
    if unknown := [one for one in found if one not in limits.rows]:
        raise ValueError(f'expected some of {list(limits.rows)}, got {unknown}')
    return found


def _point(values: list[str], _: Limits) -> tuple[float, float]:
    x, comma, y = values[0].partition(',')
    if not comma:
        raise ValueError(f'expected X,Y, got {values[0]!r}')
    return check_point(float(x), float(y))


def _index(value: str, count: int) -> int:
    if not (value.isdecimal() and int(value) < count):
        raise ValueError(f'expected a number below {count}, got {value!r}')
    return int(value)


def _choice(value: str, choices: Sequence[str]) -> str:
    if value not in choices:
        raise ValueError(f'expected one of {list(choices)}, got {value!r}')
    return value


def _threshold(values: list[str], _: Limits) -> float:
    if not 0 <= float(values[0]) < 1:
        raise ValueError(f'expected a probability in [0, 1), got {values[0]}')
    return float(values[0])


_READERS = {
    'rows': _rows,
    'image': lambda values, limits: _index(values[0], limits.num_samples),
    'second': lambda values, limits: _index(values[0], limits.num_samples),
    'point': _point,
    'source': lambda values, _: _index(values[0], 2),
    'mode': lambda values, limits: _choice(values[0], limits.modes),
    'block': lambda values, limits: _index(values[0], limits.num_blocks),
    'own_scale': lambda values, _: _choice(values[0], ('True', 'False')) == 'True',
    'words': lambda values, _: tuple(one for one in values if one),
    'synonyms': lambda values, _: _choice(values[0], ('mean', 'max')),
    'threshold': _threshold,
}
