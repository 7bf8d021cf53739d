"""Build the sdist and the wheel, and look into both for what ``mim`` needs."""

from __future__ import annotations

import shutil
import tarfile
import zipfile
from collections.abc import Iterable
from pathlib import Path

from environment import venv_python
from steps import ROOT, StepError, run, say

DIST = ROOT / 'build' / 'dist'
MODULE = 'refineclip'
NEVER = ('/tests/', '/tools/dev/', '__pycache__', '/work_dirs/')


def build() -> None:
    """Build the sdist, and the wheel from the sdist."""
    shutil.rmtree(DIST, ignore_errors=True)
    run([venv_python(), '-m', 'build', '--no-isolation', '--outdir', DIST, '.'])


def the_wheel() -> Path:
    """Path of the wheel that was built last."""
    wheels = list(DIST.glob('*.whl'))
    if len(wheels) != 1:
        raise StepError(f'expected one wheel in {DIST}, got {len(wheels)}')
    return wheels[0]


def expected_mim_files() -> set[str]:
    """Paths below ``.mim`` that the checkout says must be there."""
    files = {'model-index.yml', 'tools/train.py', 'tools/test.py'}
    for path in (ROOT / 'configs').rglob('*'):
        if path.is_file() and path.suffix in ('.py', '.yml', '.md'):
            files.add(path.relative_to(ROOT).as_posix())
    return files


def demand(names: Iterable[str], wanted: Iterable[str], archive: Path) -> None:
    """Compare the names in an archive with what has to be in it.

    Raises:
        StepError: Naming the first files that are missing.
    """
    missing = sorted(set(wanted) - set(names))
    if missing:
        raise StepError(f'{archive.name} lacks {len(missing)} files, first {missing[:5]}')


def open_wheel() -> None:
    """Check the wheel: package, ``.mim`` files, no tests, and what mim's path search relies on."""
    wheel = the_wheel()
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        record = next(name for name in names if name.endswith('.dist-info/RECORD'))
        first = archive.read(record).decode().splitlines()[0]
        top = archive.read(record.replace('RECORD', 'top_level.txt')).decode().split()
    sources = {path.relative_to(ROOT).as_posix() for path in (ROOT / MODULE).rglob('*.py')}
    demand(names, sources | {f'{MODULE}/py.typed'}, wheel)
    demand(names, {f'{MODULE}/.mim/{name}' for name in expected_mim_files()}, wheel)
    foreign = [name for name in names if any(part in f'/{name}' for part in NEVER)]
    if foreign:
        raise StepError(f'{wheel.name} ships what users must not get: {foreign[:5]}')
    if not first.startswith(f'{MODULE}/') or top != [MODULE]:
        raise StepError(f'mim would not find the package: RECORD starts {first!r}, top level {top}')
    if any(name.endswith('entry_points.txt') for name in names):
        raise StepError('the wheel has console scripts, which break the path search of mim')
    say(f'   {wheel.name}: {len(names)} files, {len(expected_mim_files())} of them below .mim')


def open_sdist() -> None:
    """Check that the sdist holds all that is needed to build the same wheel."""
    sdist = next(DIST.glob('*.tar.gz'))
    with tarfile.open(sdist) as archive:
        names = {name.partition('/')[2] for name in archive.getnames()}
    needed = {'setup.py', 'pyproject.toml', 'LICENSE', 'requirements/runtime.txt'}
    demand(names, expected_mim_files() | needed, sdist)


def build_and_open() -> None:
    """Build both archives and check their contents."""
    build()
    open_sdist()
    open_wheel()
