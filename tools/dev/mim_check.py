"""Install the wheel in a clean environment and train from it with mim, outside the checkout.

The environment is what `pip install 'refineclip-mm[onedl]'` makes, no compiler in it; it lives in
the user's cache, because installing torch takes minutes. Our wheel is installed anew each time.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from pathlib import Path

from distributions import the_wheel
from environment import (
    BUILD_TOOLS,
    CONSTRAINTS,
    FAMILY,
    REQUIREMENTS,
    create_venv,
    pip_install,
    venv_python,
)
from steps import CACHE, ROOT, StepError, fingerprint, is_stamped, run, say, write_stamp

DISTRIBUTION = 'refineclip-mm'
MIM = FAMILY.mim
MICROWORLD = 'data/microworld'
# Config -> options. The second is a detector: mmdet, on mmcv without operators.
CONFIGS = {
    'refiner_vit-toy_1xb2-4i_photos.py': ['train_dataloader.dataset.data_root=photos'],
    'fvit_microworld.py': ['train_cfg.max_iters=2', 'train_cfg.val_interval=2'],
}

# Runs in the clean environment: every room of the core imports, from there and without mmcv, whose
# import None forbids.
TRY_CORE = """
import importlib, pathlib, sys
sys.modules['mmcv'] = None
for room in ('encoders', 'distill', 'datasets', 'evaluation'):
    importlib.import_module(f'refineclip.{room}')
import refineclip
assert pathlib.Path(sys.prefix) in pathlib.Path(refineclip.__file__).parents, refineclip.__file__
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
    names = ('runtime.txt', f'{FAMILY.extra}.txt')
    inputs = [*(REQUIREMENTS / name for name in names), CONSTRAINTS, ROOT / 'setup.py']
    value = fingerprint(sys.version, MIM, *inputs)
    venv = CACHE / f'{FAMILY.clean_env}-{value}'
    stamp = venv / 'refineclip-stamp'
    if is_stamped(stamp, value):
        say(f'   the clean environment {venv} is there from an earlier run')
    else:
        for old in CACHE.glob(f'{FAMILY.clean_env}-*'):
            shutil.rmtree(old)
        CACHE.mkdir(parents=True, exist_ok=True)
        create_venv(venv)
        python = venv_python(venv)
        pip_install(*BUILD_TOOLS, f'{the_wheel()}[{FAMILY.extra}]', python=python)
        run([python, '-m', 'pip', 'install', '--quiet', MIM])
        write_stamp(stamp, value)
    return venv


def isolated_env(venv: Path) -> dict[str, str]:
    """Environment variables of a shell with nothing but the clean environment: no compiler."""
    return {
        'PATH': str(venv_python(venv).parent),
        'VIRTUAL_ENV': str(venv),
        'PYTHONPATH': '',
        'HF_HUB_OFFLINE': '1',
    }


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
        draw = [python, '-m', 'refineclip', 'microworld', MICROWORLD, '--train', '4', '--val', '2']
        run(draw, cwd=here, extra_env=env)
        for config, options in CONFIGS.items():
            command = [python.with_name('mim'), 'train', DISTRIBUTION, config]
            command += ['--work-dir', config, '--cfg-options', *options]
            output = run(command, cwd=here, extra_env=env)
            if 'Training finished successfully' not in output or ' loss: ' not in output:
                raise StepError(f'mim ended well but its output shows no training of {config}')
            if not list((here / config).glob('*.pth')):
                raise StepError(f'mim train left no checkpoint of {config}')
