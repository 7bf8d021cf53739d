"""The shell commands that the doctor and errors name."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from refineclip import installation


@pytest.mark.parametrize(
    ('note', 'expected'),
    [
        ('ImportError: libGL.so.1: cannot open shared object file', 'apt-get install -y libgl1'),
        ("ModuleNotFoundError: No module named 'terminaltables'", 'pip install terminaltables'),
        ("ModuleNotFoundError: No module named 'mmcv._ext'", 'onedl-mmcv=='),
        ("ModuleNotFoundError: No module named 'cv2'", 'pip install opencv-python-headless'),
    ],
)
def test_fix_follows_the_culprit_of_the_error(note: str, expected: str) -> None:
    assert expected in installation.fix_for('mmdet', 'onedl', note)


@pytest.mark.parametrize('nvcc', [None, '/usr/local/cuda/bin/nvcc'])
def test_mmcv_is_built_for_cuda_where_nvcc_is(
    monkeypatch: pytest.MonkeyPatch, nvcc: str | None
) -> None:
    monkeypatch.setattr(installation, 'installed_version', lambda name: '2.11.0+cu128')
    monkeypatch.setattr(installation.shutil, 'which', lambda name, path=None: nvcc)
    assert ('FORCE_CUDA=1' in installation.compile_mmcv('onedl')) == (nvcc is not None)
    monkeypatch.setattr(installation, 'installed_version', lambda name: '2.11.0+cpu')
    assert 'FORCE_CUDA' not in installation.compile_mmcv('onedl')


def test_mmcv_without_operators_goes_before_it_is_compiled(monkeypatch) -> None:
    monkeypatch.setattr(installation, 'installed_version', lambda name: '2.1.0')
    command = installation.compile_mmcv('openmmlab')
    assert ' -m pip uninstall -y mmcv-lite && ' in command
    assert command.endswith(' mmcv==2.1.0')


def test_pins_are_those_of_the_constraints(repo_root: Path) -> None:
    text = (repo_root / 'requirements' / 'constraints.txt').read_text()
    tested = set(re.findall(r'^[\w-]+==\S+', text, flags=re.MULTILINE))
    named = {pin for value in installation.CORE.values() for pin in value.split()}
    named |= {pin for value in installation.FAMILIES['onedl'].values() for pin in value.split()}
    assert {pin for pin in named if '==' in pin} <= tested
