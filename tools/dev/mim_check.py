"""Install the wheel in a clean environment and train from it with mim, outside the checkout.

The environment lives in the user's cache, because installing torch takes minutes; it holds the
core without the mm stack, so it also proves that training needs no mmcv. Our wheel is installed
anew each time.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

from distributions import the_wheel
from environment import (
    BUILD_TOOLS,
    CONSTRAINTS,
    EXTRA,
    REQUIREMENTS,
    create_venv,
    pip_install,
    venv_python,
)
from steps import CACHE, ROOT, StepError, fingerprint, is_stamped, run, say, write_stamp

DISTRIBUTION = 'refineclip-mm'
MIM = 'onedl-mim'
TINY_CONFIG = 'refiner_vit-toy_1xb2-4i_photos.py'

# Runs in the clean environment: every room of the core imports, from there and without mmcv.
TRY_CORE = """
import importlib, importlib.util, pathlib, sys
for room in ('encoders', 'distill', 'datasets', 'evaluation'):
    importlib.import_module(f'refineclip.{room}')
import refineclip
assert pathlib.Path(sys.prefix) in pathlib.Path(refineclip.__file__).parents, refineclip.__file__
assert importlib.util.find_spec('mmcv') is None, 'the clean environment has mmcv'
"""

MAKE_PHOTOS = """
import numpy as np, pathlib
from PIL import Image
pathlib.Path('photos').mkdir()
rng = np.random.default_rng(0)
for i in range(4):
    Image.fromarray(rng.integers(0, 256, (64, 80, 3), dtype=np.uint8)).save(f'photos/{i}.png')
"""


def clean_venv() -> Path:
    """Make the clean environment, or take the one of an earlier run with the same pins."""
    inputs = [REQUIREMENTS / 'runtime.txt', CONSTRAINTS, ROOT / 'setup.py']
    value = fingerprint(sys.version, MIM, *inputs)
    venv = CACHE / f'clean-env-{value}'
    stamp = venv / 'refineclip-stamp'
    if is_stamped(stamp, value):
        say(f'   the clean environment {venv} is there from an earlier run')
    else:
        for old in CACHE.glob('clean-env-*'):
            shutil.rmtree(old)
        CACHE.mkdir(parents=True, exist_ok=True)
        create_venv(venv)
        pip_install(*BUILD_TOOLS, MIM, f'{the_wheel()}[{EXTRA}]', python=venv_python(venv))
        write_stamp(stamp, value)
    return venv


def isolated_env(venv: Path) -> dict[str, str]:
    """Environment variables of a shell with only the clean environment activated."""
    path = f'{venv_python(venv).parent}{os.pathsep}{os.environ["PATH"]}'
    return {'PATH': path, 'VIRTUAL_ENV': str(venv), 'PYTHONPATH': '', 'HF_HUB_OFFLINE': '1'}


def train_with_mim() -> None:
    """Install the wheel, run ``mim train`` in an empty folder and read what it did."""
    venv = clean_venv()
    python, env = venv_python(venv), isolated_env(venv)
    pip_install('--force-reinstall', '--no-deps', the_wheel(), python=python)
    with tempfile.TemporaryDirectory() as folder:
        here = Path(folder)
        run([python, '-c', TRY_CORE], cwd=here, extra_env=env)
        run([python, '-m', 'refineclip', 'doctor'], cwd=here, extra_env=env)
        run([python, '-c', MAKE_PHOTOS], cwd=here, extra_env=env)
        command = [python.with_name('mim'), 'train', DISTRIBUTION, TINY_CONFIG]
        command += ['--work-dir', 'out']
        command += ['--cfg-options', 'train_dataloader.dataset.data_root=photos']
        output = run(command, cwd=here, extra_env=env)
        if 'Training finished successfully' not in output or ' loss: ' not in output:
            raise StepError('mim ended well but its output shows no training')
        if not list((here / 'out').glob('*.pth')):
            raise StepError('mim train left no checkpoint in its work dir')
