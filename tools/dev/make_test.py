"""``make test``: install everything, then lint, types, tests, distributions and mim."""

from __future__ import annotations

import os
import re

from distributions import build_and_open
from environment import FAMILY, REQUIREMENTS, VENV, install_core, install_group, venv_python
from family import ONEDL
from mim_check import MIM, train_with_mim
from mm_stack import install_mm_stack, works
from steps import ROOT, Chain, StepError, main, run

SOURCES = ('refineclip', 'tools', 'projects', 'benchmarks', 'tests', 'setup.py')


def tool(name: str, *arguments: str) -> str:
    """Run a command-line tool of the environment."""
    return run([venv_python(), '-m', name, *arguments])


def run_pytest() -> int:
    """Run the tests in parallel and return how many passed."""
    workers = min(os.cpu_count() or 1, 8)
    extra = os.environ.get('PYTEST_ARGS', '--slow').split()
    try:
        output = run(
            [venv_python(), '-m', 'pytest', '-n', str(workers), *extra],
            # One thread per worker: more would only wait for each other.
            extra_env={'OMP_NUM_THREADS': '1', 'HF_HUB_OFFLINE': '1'},
        )
    except StepError as error:
        # Other steps print much after it; the end of a log is what people get to see.
        told = [line for line in error.output.splitlines() if line.startswith(('FAILED', 'ERROR'))]
        raise StepError(str(error), error.output, told) from error
    passed = re.search(r'(\d+) passed', output.strip().splitlines()[-1])
    if passed is None:
        raise StepError('pytest ended well but ran no test')
    return int(passed[1])


def run_gpu_tests() -> str:
    """Run what needs a GPU, which the other tests do not get to see."""
    return tool('pytest', '-m', 'gpu')


def check_declared_python() -> str:
    """Check that no syntax or module newer than the declared Python is used."""
    declared = re.search(r"python_requires='>=([\d.]+)'", (ROOT / 'setup.py').read_text())
    assert declared
    options = ['--no-tips', '--violations', f'--target={declared[1]}-']
    # It takes these for names of Python 2, and would skip the files that have them.
    options += ['--exclude', 'long', '--exclude', 'str.decode']
    return run([venv_python().with_name('vermin'), *options, *SOURCES])


def install_test_tools() -> None:
    """Install linters, pytest, the build front end, mim and what builds the site, for tests."""
    # openmim pins tools that others need newer: it runs in the clean environment only.
    tools = [MIM] if FAMILY is ONEDL else []
    install_group('tests', *tools, REQUIREMENTS / 'tests.txt', REQUIREMENTS / 'docs.txt')


def chain() -> None:
    """Run all steps; the installing ones must succeed, the checks all run."""
    steps = Chain('make test')
    steps.must(f'install torch, torchvision and refineclip into {VENV.name}', install_core)
    steps.must('install the test tools', install_test_tools)
    ops = steps.must('install mmcv, mmdet and mmseg', install_mm_stack)
    steps.check('ruff check', lambda: tool('ruff', 'check', '.'))
    steps.check('ruff format', lambda: tool('ruff', 'format', '--check', '.'))
    steps.check('vermin', check_declared_python)
    steps.check('mypy', lambda: tool('mypy'))
    tests = steps.check('pytest', run_pytest)
    if works('import torch; assert torch.cuda.is_available()', tell=False):
        steps.check('pytest on the GPU', run_gpu_tests)
    wheel = steps.check('sdist and wheel', build_and_open_checked)
    if wheel:
        steps.check('mim train from the wheel in a clean environment', train_with_mim)
    steps.finish(
        f'all green ({FAMILY.extra}, ops {ops}: ruff, vermin, mypy, {tests} tests, wheel, mim)'
    )


def build_and_open_checked() -> bool:
    """Build and open the distributions; True tells the chain that there is a wheel."""
    build_and_open()
    return True


if __name__ == '__main__':
    main(chain)
