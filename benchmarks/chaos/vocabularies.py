"""Hostile vocabularies: files of names, and lines of them."""

from __future__ import annotations

import json
from pathlib import Path

from refineclip.datasets.vocabularies import as_vocabulary

from .spoiling import Generator, pick, spoil, spoil_json
from .verdicts import Case

_WORDS = ('zebra', 'St. Bernard', 'traffic light', '斑马', 'crème brûlée', 'zebra;horse', "dog's")
_LINES = (
    '',
    ' . ',
    'a . . b',
    'a . a',
    'zebra',
    '. a',
    'a .',
    'x' * 5000,
    '\x00',
    'a\nb',
    ';',
    '. ;',
)


def vocabulary_case(rng: Generator, folder: Path, index: int) -> Case:
    """A file of names in some encoding, spoilt or not, or a line of them."""
    if rng.random() < 0.2:
        line = pick(rng, _LINES)
        return Case(f'line {line[:12]!r}', lambda: as_vocabulary(line), _plain)
    names = tuple(dict.fromkeys(pick(rng, _WORDS) for _ in range(int(rng.integers(1, 6)))))
    titles = {name.split(';')[0] for name in names}
    names = names if len(titles) == len(names) else ('zebra',)
    encoding = pick(rng, ['utf-8', 'utf-8-sig', 'utf-16', 'latin-1', 'utf-32'])
    suffix = pick(rng, ['.txt', '.json'])
    path = folder / f'names_{index}{suffix}'
    if suffix == '.json' and rng.random() < 0.5:
        layouts = (list(names), [[name] for name in names], [dict(id=1, name='a')])
        way, content = spoil_json(pick(rng, layouts), rng)
        path.write_bytes(content)
        return Case(way, lambda: as_vocabulary(path), _plain)
    text = json.dumps(list(names)) if suffix == '.json' else '\n'.join(names)
    way, content = spoil(text.encode(encoding, errors='replace'), rng)
    path.write_bytes(content)
    exact = way == 'whole' and encoding != 'latin-1'

    def wrong(found: tuple[str, ...]) -> str:
        return f'{found} of {names}' if exact and found != names else _plain(found)

    return Case(f'{encoding} {suffix} {way}', lambda: as_vocabulary(path), wrong)


def _plain(found: tuple[str, ...]) -> str:
    """Names that could be asked for: texts, not blank, without marks of encodings."""
    fine = all(
        isinstance(name, str) and name.strip() and not set('\0\ufeff') & {*name} for name in found
    )
    return '' if found and fine else f'names {found}'
