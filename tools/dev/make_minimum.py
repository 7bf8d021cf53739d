"""``make test-minimum``: the core's tests with the oldest versions that setup.py allows."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from environment import BUILD_TOOLS, REQUIREMENTS, create_venv, venv_python
from family import ONEDL
from steps import ROOT, Chain, fingerprint, is_stamped, main, run, say, write_stamp

MINIMUM = REQUIREMENTS / 'minimum.txt'
TEST_TOOLS = ('pytest', 'pytest-xdist')


def install(venv: Path) -> None:
    """Make the environment: the core at its lower bounds, without mmcv."""
    stamp = venv / 'refineclip-stamps' / 'minimum'
    inputs = [MINIMUM, REQUIREMENTS / 'runtime.txt', REQUIREMENTS / 'demo.txt', ROOT / 'setup.py']
    value = fingerprint(sys.version, str(ROOT), *inputs)
    if is_stamped(stamp, value):
        say('   installed by an earlier run')
        return
    create_venv(venv)
    pip = [venv_python(venv), '-m', 'pip', 'install', '--quiet', '-c', MINIMUM]
    run([*pip, *BUILD_TOOLS])
    run([*pip, '--no-build-isolation', '-e', '.[demo]', *ONEDL.engine, *TEST_TOOLS])
    write_stamp(stamp, value)


def chain() -> None:
    """Install and test; what needs mmcv, mmdet or mmseg is skipped."""
    venv = Path(os.environ.get('VENV') or ROOT / '.venv-minimum').absolute()
    steps = Chain('make test-minimum')
    steps.must(f'install the lower bounds into {venv.name}', lambda: install(venv))
    workers = str(min(os.cpu_count() or 1, 8))
    pytest = [venv_python(venv), '-m', 'pytest', '-n', workers]
    pytest += os.environ.get('PYTEST_ARGS', '--slow').split()
    environment = {'OMP_NUM_THREADS': '1', 'HF_HUB_OFFLINE': '1'}
    steps.check('pytest', lambda: run(pytest, extra_env=environment))
    steps.finish('all green')


if __name__ == '__main__':
    main(chain)
