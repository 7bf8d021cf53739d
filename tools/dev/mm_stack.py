"""Install mmcv, mmdet and mmseg: ``python3 tools/dev/mm_stack.py``.

``OPS=`` on the make command line says with which operators:

- ``auto`` (default): compiled ones where they are there or lie in the cache, else torchvision's;
- ``compiled``: compile them if they are not there;
- ``torchvision``: mmcv without operators, for which refineclip.mmcv_ops stands in.

mmcv has no ready-made wheel with operators, so it is compiled once and kept in a cache of our own.
pip's cache will not do: it does not know which torch a wheel was compiled for. And because the
name of a file proves nothing, a cached wheel is trusted only after its operators ran.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

from environment import (
    FAMILY,
    REQUIREMENTS,
    install_core,
    install_group,
    need_compiler,
    need_nvcc,
    pip_install,
    venv_python,
)
from steps import CACHE, Chain, StepError, main, run, say

OPS = ('auto', 'compiled', 'torchvision')
MMCV_NEEDS = ('ninja', 'setuptools>=80,<81', 'wheel')

# With a GPU in sight mmcv is compiled for CUDA, and FORCE_CUDA=1 asks for it on a login node. So it
# is not the torch alone that decides what a wheel holds.
CACHE_KEY = """
import os, sys, sysconfig, torch
version = torch.__version__.split('+')[0]
for_cuda = torch.version.cuda and (torch.cuda.is_available() or os.getenv('FORCE_CUDA') == '1')
device = 'cu' + torch.version.cuda if for_cuda else 'cpu'
platform = sysconfig.get_platform().replace('-', '_').replace('.', '_')
print(f'torch{version}-{device}-cp{sys.version_info[0]}{sys.version_info[1]}-{platform}')
"""

TRY_OPERATORS = """
import torch
from mmcv.ops import nms, roi_align
for device in ['cpu'] + ['cuda'] * torch.cuda.is_available():
    torch.set_default_device(device)
    boxes = torch.tensor([[0., 0., 4., 4.], [0., 0., 4., 4.], [9., 9., 12., 12.]])
    assert nms(boxes, torch.tensor([.9, .8, .7]), 0.5)[1].tolist() == [0, 2]
    rois = torch.tensor([[0., 0., 0., 4., 4.]])
    assert roi_align(torch.ones(1, 1, 8, 8), rois, 2).flatten().tolist() == [1.] * 4
"""

TRY_STAND_IN = f"""
import refineclip.mmcv_ops
{TRY_OPERATORS}
assert refineclip.mmcv_ops.stands_in()
"""

TRY_LIBRARIES = (
    'import refineclip.mmcv_ops, mmdet.datasets, mmdet.models, mmseg.datasets, mmseg.models'
)


def works(code: str, tell: bool = True) -> bool:
    """Whether a piece of Python runs in the environment; ``tell`` prints the reason if not."""
    done = subprocess.run(
        [venv_python(), '-W', 'ignore', '-c', code], capture_output=True, text=True, check=False
    )
    if done.returncode != 0 and tell:
        lines = done.stderr.strip().splitlines() or [f'exit status {done.returncode}']
        say(f'   {lines[-1]}')
    return done.returncode == 0


def wheel_folder() -> Path:
    """Folder of the cache for this torch, Python and platform."""
    key = subprocess.run(
        [venv_python(), '-c', CACHE_KEY], capture_output=True, text=True, check=True
    ).stdout.strip()
    return CACHE / 'wheels' / key


def build_wheel(folder: Path) -> Path:
    """Compile mmcv and move the finished wheel into the cache in one step."""
    need_compiler()
    if '-cpu-' not in folder.name:
        need_nvcc()
    cores = os.cpu_count() or 1
    minutes = max(3, 30 // cores)
    say(f'compiling the operators of mmcv, once: about {minutes} minutes on {cores} cores')
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        options = ['--no-deps', '--no-build-isolation', '--no-cache-dir']
        constraints = ['-c', REQUIREMENTS / 'constraints.txt']
        pip = [venv_python(), '-m', 'pip', 'wheel']
        run(
            [*pip, '-v', *options, *constraints, '-w', temporary, FAMILY.mmcv],
            # The operators' build looks for ninja on the path and not beside the interpreter.
            extra_env={
                'MMCV_WITH_OPS': '1',
                'MAX_JOBS': str(cores),
                'PATH': f'{venv_python().parent}{os.pathsep}{os.environ["PATH"]}',
            },
            show=objects_done,
        )
        built = next(Path(temporary).glob('*.whl'))
        return Path(shutil.move(built, folder / built.name))


def objects_done(line: str) -> str | None:
    """What is shown of a build: ninja's count of compiled objects."""
    count = re.match(r'\s*\[(\d+)/(\d+)\]', line)
    return f'   {count[1]} of {count[2]} objects compiled\n' if count else None


def replace_mmcv(what: str | Path) -> None:
    """Install an mmcv in the place of the one that is there, if any."""
    names = sorted({FAMILY.mmcv, FAMILY.mmcv_without_ops})
    run([venv_python(), '-m', 'pip', 'uninstall', '--quiet', '-y', *names])
    pip_install('--no-deps', what)


def install_and_try(wheel: Path) -> bool:
    """Install a wheel of mmcv and tell whether its operators run."""
    try:
        replace_mmcv(wheel)
    except StepError:
        return False
    return works(TRY_OPERATORS)


def install_cached(folder: Path) -> bool:
    """Install mmcv from the cache, if a wheel is there whose operators run."""
    for wheel in sorted(folder.glob(f'{FAMILY.mmcv.replace("-", "_")}-*.whl')):
        say(f'trying the cached {wheel}')
        if install_and_try(wheel):
            return True
        say('the cached wheel does not install or its operators do not run: deleted')
        wheel.unlink()
    return False


def install_mmcv(ops: str = 'auto') -> str:
    """Install mmcv; its operators are checked by running two of them.

    Args:
        ops: See the top of this file.

    Returns:
        Which operators run: ``compiled`` or ``torchvision``.
    """
    if ops not in OPS:
        raise StepError(f'OPS: expected one of {", ".join(OPS)}, got {ops!r}')
    if ops != 'torchvision':
        if works(TRY_OPERATORS, tell=False):
            say('mmcv is installed and its operators run')
            return 'compiled'
        folder = wheel_folder()
        if install_cached(folder):
            return 'compiled'
        if ops == 'compiled':
            if not install_and_try(build_wheel(folder)):
                raise StepError('mmcv was compiled, but its operators do not run')
            return 'compiled'
    if not works(TRY_STAND_IN, tell=False):
        replace_mmcv(FAMILY.mmcv_without_ops)
        if not works(TRY_STAND_IN):
            raise StepError("mmcv without operators does not run on torchvision's")
    say('mmcv has no operators of its own: those of torchvision stand in (OPS=compiled builds it)')
    return 'torchvision'


def install_mm_stack() -> str:
    """Install the whole stack, import it, and return which operators of mmcv run."""
    install_group('mm-requirements', *MMCV_NEEDS, REQUIREMENTS / 'mm.txt')
    ops = install_mmcv(os.environ.get('OPS') or 'auto')
    install_group('mm-libraries', '--no-deps', '--no-build-isolation', *FAMILY.libraries)
    if not works(TRY_LIBRARIES):
        raise StepError(f'`{TRY_LIBRARIES}` fails after the installation')
    return ops


def chain() -> None:
    """Install the core and the mm stack."""
    steps = Chain('mm stack')
    steps.must('install the core', install_core)
    steps.must('install mmcv, mmdet and mmseg', install_mm_stack)
    steps.finish('ready')


if __name__ == '__main__':
    main(chain)
