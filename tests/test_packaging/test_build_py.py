"""What goes into the wheel; `make test` also opens the real archives."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import refineclip


@pytest.fixture(scope='module')
def build_lib(repo_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Run only the part of the build that collects the files."""
    folder = tmp_path_factory.mktemp('build')
    command = [sys.executable, 'setup.py', '-q', 'egg_info', '--egg-base', str(folder)]
    command += ['build_py', '--build-lib', str(folder / 'lib')]
    subprocess.run(command, cwd=repo_root, check=True, capture_output=True, text=True)
    return folder / 'lib'


def test_mim_finds_launchers_configs_and_index(build_lib: Path, repo_root: Path) -> None:
    mim = build_lib / 'refineclip' / '.mim'
    assert (mim / 'tools' / 'train.py').is_file()
    assert (mim / 'tools' / 'test.py').is_file()
    assert (mim / 'model-index.yml').is_file()
    shipped = {path.relative_to(mim) for path in (mim / 'configs').rglob('*.py')}
    assert shipped == {
        path.relative_to(repo_root) for path in (repo_root / 'configs').rglob('*.py')
    }


def test_only_the_package_is_shipped(build_lib: Path) -> None:
    assert [path.name for path in build_lib.iterdir()] == ['refineclip']
    assert (build_lib / 'refineclip' / 'py.typed').is_file()
    assert not (build_lib / 'refineclip' / '.mim' / 'tools' / 'dev').exists()
    assert not list(build_lib.rglob('__pycache__'))


def test_source_tree_stays_clean(build_lib: Path, repo_root: Path) -> None:
    # A second copy of the configs in the tree would make every name ambiguous for mim.
    assert not (repo_root / 'refineclip' / '.mim').exists()


def test_version_is_read_without_import(repo_root: Path) -> None:
    command = [sys.executable, 'setup.py', '-q', '--version']
    done = subprocess.run(command, cwd=repo_root, check=True, capture_output=True, text=True)
    assert done.stdout.split()[-1] == refineclip.__version__


def test_import_is_light() -> None:
    code = 'import sys, refineclip; assert not {"torch", "numpy", "mmengine"} & set(sys.modules)'
    subprocess.run([sys.executable, '-c', code], check=True)


def test_no_module_name_that_mim_looks_for(repo_root: Path) -> None:
    for name in ('tools', 'configs', 'tests'):
        assert not (repo_root / 'refineclip' / name).exists()
