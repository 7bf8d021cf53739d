"""The virtual environment of the checkout and what is installed into it."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path

from family import chosen
from steps import ROOT, StepError, fingerprint, is_stamped, run, say, write_stamp

FAMILY = chosen()
VENV = Path(os.environ.get('VENV') or FAMILY.venv).absolute()
REQUIREMENTS = ROOT / 'requirements'
CONSTRAINTS = REQUIREMENTS / 'constraints.txt'
BUILD_TOOLS = ('setuptools>=80,<82', 'wheel')
EDITABLE_INPUTS = (
    'setup.py',
    'refineclip/__init__.py',
    'requirements/runtime.txt',
    'requirements/demo.txt',
)
FREE_DISK = 8 * 2**30  # bytes; torch with what it brings takes about 6 GB


def venv_python(venv: Path = VENV) -> Path:
    """Path of the interpreter in a virtual environment."""
    return venv / ('Scripts/python.exe' if os.name == 'nt' else 'bin/python')


def create_venv(venv: Path = VENV) -> None:
    """Make a virtual environment unless a working one is there."""
    if sys.version_info < (3, 10):  # noqa: UP036  (this script runs before pip can refuse)
        raise StepError(
            f'expected Python 3.10 or newer, got {sys.version.split()[0]}; name another one with '
            'PYTHON=/path/to/python3 on the make command line'
        )
    python = venv_python(venv)
    if (
        python.exists()
        and subprocess.run(
            [python, '-m', 'pip', '--version'], capture_output=True, check=False
        ).returncode
        == 0
    ):
        return
    if importlib.util.find_spec('ensurepip') is None or importlib.util.find_spec('venv') is None:
        raise StepError(
            'this Python cannot make virtual environments; '
            'on Debian and Ubuntu: sudo apt-get install -y python3-venv python3-dev'
        )
    if shutil.disk_usage(venv.parent if venv.parent.exists() else Path.home()).free < FREE_DISK:
        raise StepError(f'expected {FREE_DISK / 2**30:.0f} GiB of free disk near {venv}')
    shutil.rmtree(venv, ignore_errors=True)
    run([sys.executable, '-m', 'venv', venv])


def pip_install(*what: str | Path, python: Path | None = None) -> None:
    """Install with the tested versions as constraints."""
    command = [python or venv_python(), '-m', 'pip', 'install', '--quiet']
    command += ['--disable-pip-version-check', '-c', CONSTRAINTS]
    run([*command, *what])


def refuse_other_family() -> None:
    """Stop before packages are laid over those of the other family of the same import names."""
    code = (
        'from importlib.metadata import distributions as d;'
        'print(*sorted({(x.metadata["Name"] or "").lower() for x in d()}'
        f' & {set(FAMILY.foreign)}))'
    )
    found = subprocess.run(
        [venv_python(), '-c', code], capture_output=True, text=True, check=True
    ).stdout.strip()
    if found:
        raise StepError(
            f'{VENV} holds packages of the other OpenMMLab family ({found}), which those of '
            f'{FAMILY.extra} would overwrite; remove the folder, name another one with VENV=, or '
            'run the tests by hand: pytest'
        )


def install_group(name: str, *what: str | Path, inputs: Sequence[Path] = ()) -> None:
    """Install once: again only when a requirement, a pin or the interpreter changed.

    Args:
        name: Name of the stamp.
        what: Requirements and options of pip; a path is a file of requirements.
        inputs: Further files that decide what is installed.
    """
    files = [item for item in what if isinstance(item, Path)]
    texts = [item for item in what if isinstance(item, str)]
    value = fingerprint(sys.version, str(ROOT), *texts, *files, *inputs, CONSTRAINTS)
    stamp = VENV / 'refineclip-stamps' / name
    if is_stamped(stamp, value):
        say(f'   {name}: installed by an earlier run')
        return
    arguments: list[str | Path] = []
    for item in what:
        arguments += ['-r', item] if isinstance(item, Path) else [item]
    pip_install(*arguments)
    write_stamp(stamp, value)


def install_core() -> None:
    """Install torch, torchvision, the runtime requirements and this checkout in editable mode."""
    create_venv()
    refuse_other_family()
    install_group('build tools', *BUILD_TOOLS)
    inputs = [ROOT / name for name in EDITABLE_INPUTS]
    what = ['--no-build-isolation', '-e', '.[demo]', *FAMILY.engine]
    install_group('core', *what, inputs=inputs)


def need_compiler() -> None:
    """Check what compiling mmcv's operators needs, before anything long starts."""
    header = Path(sysconfig.get_paths()['include']) / 'Python.h'
    lacking = [name for name in ('g++',) if shutil.which(name) is None]
    lacking += [] if header.is_file() else ['Python.h']
    if lacking:
        raise StepError(
            f'{" and ".join(lacking)} missing, needed to compile mmcv; '
            'on Debian and Ubuntu: sudo apt-get install -y build-essential python3-dev'
        )


def need_nvcc() -> None:
    """Check that the CUDA compiler is there, which a GPU in sight makes mmcv's build ask for."""
    home = os.environ.get('CUDA_HOME') or os.environ.get('CUDA_PATH') or '/usr/local/cuda'
    if shutil.which('nvcc') is None and shutil.which('nvcc', path=str(Path(home) / 'bin')) is None:
        raise StepError(
            'nvcc missing, needed to compile mmcv for the GPU: install the CUDA toolkit of the '
            'version that torch.version.cuda names and set CUDA_HOME; or hide the GPU with '
            'CUDA_VISIBLE_DEVICES='
        )
