"""A suite and its methods, which are data: a plain config of ``configs/compare``."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from mmengine.config import Config

import refineclip

KINDS = ('microworld', 'photos', 'coco')
# What every suite says, and what those that run say besides.
ALWAYS = ('kind', 'title', 'baseline', 'methods')
RUNS = ('passes', 'batch_size', 'files', 'frozen', 'axes', 'columns')


@dataclass(frozen=True)
class Method:
    """One row of the comparison; see docs/compare.md.

    Attributes:
        name: Name of the row.
        text: One line on what it is.
        source: Where the method is from.
        config: Training config, relative to the repository; empty for a row without training.
        part: Part of the model that is measured, a registered encoder.
        passes: Passes of the student per image and step.
        budget: Whether it trains within the suite's budget; otherwise as long as its config says.
        encoder: Laid over the part's config for measuring, for instance ``dense_mode``.
        block: Take the map after this block; negative counts from the end.
        shifts: Average over so many shifts along either side.
        blend: ``dict(of=METHOD, alpha=SHARE)``: weights of a method blended with the frozen ones.
    """

    name: str
    text: str
    source: str
    config: str = ''
    part: str = 'student'
    passes: int = 1
    budget: bool = True
    encoder: Mapping[str, Any] = field(default_factory=dict)
    block: int | None = None
    shifts: int | None = None
    blend: Mapping[str, Any] = field(default_factory=dict)

    @property
    def trains(self) -> bool:
        """Whether it is trained, and so measured once per seed."""
        return bool(self.config)

    @property
    def folder(self) -> str:
        """Name of its folders and files."""
        return re.sub(r'[^a-z0-9]+', '-', self.name.lower()).strip('-')


@dataclass(frozen=True)
class Suite:
    """Data, budget, measures and methods.

    Attributes:
        file: The config.
        settings: Its content without the methods.
        methods: By name, in its order.
    """

    file: Path
    settings: Mapping[str, Any]
    methods: Mapping[str, Method]

    def __getitem__(self, key: str) -> Any:
        return self.settings[key]

    def choose(self, names: Sequence[str]) -> list[Method]:
        """The methods of these names in the suite's order, and its baseline; all for no name.

        Raises:
            ValueError: On a name that the suite does not have.
        """
        unknown = [name for name in names if name not in self.methods]
        if unknown:
            raise ValueError(
                f'--methods: expected some of {list(self.methods)}, got {unknown}; a method is one '
                f'entry in {self.file}'
            )
        wanted = {*names, self['baseline']} if names else set(self.methods)
        return [one for name, one in self.methods.items() if name in wanted]


def find_file(relative: str) -> Path:
    """A file of the repository, in the checkout or in the installed package.

    Args:
        relative: Path from the current folder or the root of the repository, or an absolute one.

    Raises:
        FileNotFoundError: If it is in neither.
    """
    package = Path(refineclip.__file__).parent
    places = [root / relative for root in (Path(), package / '.mim', package.parent)]
    for place in places:
        if place.is_file():
            return place
    raise FileNotFoundError(
        f'expected {places[-1]} in a checkout or {places[1]} in an installed package, got neither; '
        'projects are in a checkout alone'
    )


def read_suite(name: str) -> Suite:
    """Read a suite by its name, or from a file of one's own.

    Raises:
        FileNotFoundError: If there is no such suite.
        ValueError: If it lacks a key, or its methods are not as :class:`Method` says.
    """
    file = Path(name) if name.endswith('.py') else find_file(f'configs/compare/{name}.py')
    if not file.is_file():
        raise FileNotFoundError(f'--suite: expected a name or a config file, got no file {file}')
    settings = Config.fromfile(file).to_dict()
    if settings.get('kind') not in KINDS:
        raise ValueError(f'{file}: expected kind out of {KINDS}, got {settings.get("kind")!r}')
    needed = ALWAYS if settings['kind'] == 'coco' else (*ALWAYS, *RUNS)
    if lacking := [key for key in needed if key not in settings]:
        raise ValueError(f'{file}: expected the keys {list(needed)}, got none of {lacking}')
    methods = read_methods(settings.pop('methods'), file)
    for key in ('baseline', 'refiner'):
        if settings.get(key) not in (None, *methods):
            raise ValueError(
                f'{file}: {key}: expected one of {list(methods)}, got {settings[key]!r}'
            )
    return Suite(file, settings, methods)


def read_methods(entries: Sequence[Mapping[str, Any]], file: Path) -> dict[str, Method]:
    """Check the entries of a suite.

    Raises:
        ValueError: On keys that an entry must or must not have, on two methods of one name (or of
            one folder, which the names decide), and on a blend of what is not trained.
    """
    known = {one.name for one in fields(Method)}
    methods: dict[str, Method] = {}
    folders: dict[str, str] = {}
    for entry in entries:
        if unknown := set(entry) - known:
            raise ValueError(
                f'{file}: expected keys out of {sorted(known)} in the method '
                f'{entry.get("name")!r}, got {sorted(unknown)}'
            )
        if lacking := {'name', 'text', 'source'} - set(entry):
            raise ValueError(f'{file}: expected {sorted(lacking)} in the method {dict(entry)}')
        method = Method(**entry)
        if method.folder in folders:
            raise ValueError(
                f'{file}: expected methods of different names, got {folders[method.folder]!r} and '
                f'{method.name!r}, both kept as {method.folder!r}; rename one'
            )
        folders[method.folder] = method.name
        methods[method.name] = method
    for method in methods.values():
        of = methods.get(method.blend.get('of', ''))
        if method.blend and (method.trains or of is None or not of.trains):
            raise ValueError(
                f'{file}: {method.name}: expected blend=dict(of=a trained method, alpha=...) and '
                f'no config, got {dict(method.blend)}'
            )
    return methods
