"""Fixtures and collection rules shared by all tests."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path

# Tests are of the CPU, and would mix it with a GPU that libraries choose by themselves; those that
# are marked gpu get one, when asked for: pytest -m gpu. Libraries look for it once, when they are
# imported, so this comes before, and before options are parsed. Workers inherit the environment.
if 'PYTEST_XDIST_WORKER' not in os.environ and ('-m', 'gpu') not in pairwise(sys.argv):
    os.environ['CUDA_VISIBLE_DEVICES'] = ''

import mmengine.registry as mmengine_registry
import numpy as np
import pytest
import torch
from mmengine.logging import MMLogger
from mmengine.registry import DefaultScope, Registry

import refineclip.mmcv_ops  # noqa: F401  (before any test imports mmdet or mmseg)

TESTS_DIR = Path(__file__).resolve().parent
REPO_ROOT = TESTS_DIR.parent

if 'PYTEST_XDIST_WORKER' in os.environ:
    # The workers already fill the cores; more threads per worker only make them wait.
    torch.set_num_threads(1)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption('--slow', action='store_true', help='also run the tests marked slow')


def missing_mm_stack() -> str | None:
    """Name the first module of the mm stack that is not installed, None when all are there."""
    modules = ('mmcv', 'mmdet', 'mmseg')
    return next((name for name in modules if importlib.util.find_spec(name) is None), None)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip what this machine or this call cannot run, and say why."""
    reasons = {}
    if not config.getoption('--slow') and 'slow' not in config.getoption('markexpr'):
        reasons['slow'] = 'slow test: run with --slow'
    if not torch.cuda.is_available():
        reasons['gpu'] = 'needs a CUDA GPU, and pytest -m gpu'
    missing = missing_mm_stack()
    if missing:
        reasons['mm'] = f'{missing} is not installed: see `python -m refineclip doctor`'
    for item in items:
        for marker, reason in reasons.items():
            if item.get_closest_marker(marker):
                item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(autouse=True)
def fixed_seed() -> None:
    """Start every test from the same random state."""
    torch.manual_seed(0)
    np.random.seed(0)  # noqa: NPY002  (libraries under test draw from the global state)


@pytest.fixture(autouse=True)
def clean_registries() -> Iterator[None]:
    """Forget the default scope, the loggers and the classes that a test itself registered.

    Classes of the package that a test imported for the first time stay: Python imports a module
    once, so a removed class would be missing for all later tests.
    """
    roots = [value for value in vars(mmengine_registry).values() if isinstance(value, Registry)]
    before = [set(root.module_dict) for root in roots]
    yield
    for root, names in zip(roots, before, strict=True):
        for name in set(root.module_dict) - names:
            if is_test_class(root.module_dict[name]):
                del root.module_dict[name]
    DefaultScope._instance_dict.clear()
    # A logger keeps the stream that it was born with, which pytest closes after the test.
    MMLogger._instance_dict.clear()


def is_test_class(registered: type) -> bool:
    """Tell whether a registered class or function was defined in a file below ``tests/``."""
    file = getattr(sys.modules.get(registered.__module__), '__file__', None)
    return file is not None and TESTS_DIR in Path(file).resolve().parents


@pytest.fixture(scope='session')
def repo_root() -> Path:
    """Folder of the checkout."""
    return REPO_ROOT


@pytest.fixture(scope='session')
def shared_data() -> Path:
    """Real images and weights that lie beside some checkouts; the test is skipped without them."""
    path = REPO_ROOT.parent / 'shared' / 'data'
    if not path.is_dir():
        pytest.skip('needs the real images and weights of ../shared/data, absent here')
    return path
