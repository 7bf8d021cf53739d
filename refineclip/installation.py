"""What is installed, by which family of OpenMMLab, and the shell commands that install it.

Light: it has to work where torch is missing.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path

# Distributions that install the same import package, per family, in the versions that the tests
# run with. Those of mmcv come without operators: refineclip.mmcv_ops stands in for them.
FAMILIES = {
    'onedl': {
        # The second is imported by the first, which does not ask for it.
        'mmengine': 'onedl-mmengine==0.10.12 opencv-python-headless',
        'mmcv': 'onedl-mmcv==2.3.6',
        'mmdet': 'onedl-mmdetection==3.5.1',
        'mmseg': 'onedl-mmsegmentation==1.4.2',
    },
    'openmmlab': {
        'mmengine': 'mmengine==0.10.7',
        'mmcv': 'mmcv-lite==2.1.0',
        'mmdet': 'mmdet==3.3.0',
        'mmseg': 'mmsegmentation==1.2.2',
    },
}
# Compiled where they are installed, if a torch is in sight.
MMCV_WITH_OPS = {'onedl': 'onedl-mmcv==2.3.6', 'openmmlab': 'mmcv==2.1.0'}
CORE = {
    'torch': 'torch==2.11.0 torchvision==0.26.0',
    'torchvision': 'torch==2.11.0 torchvision==0.26.0',
    'open_clip': 'open-clip-torch==3.3.0',
    'timm': 'timm==1.0.31',
    'mmengine': '',  # depends on the family
}
# What the extras of setup.py bring beyond the core, by distribution.
EXTRAS = {
    'app': {'gradio': 'gradio>=6.18,<7'},
    'export': {
        'onnx': 'onnx>=1.17',
        'onnxruntime': 'onnxruntime>=1.20',
        'onnxscript': 'onnxscript>=0.5',
        'transformers': 'transformers>=4.50',
    },
}
NOT_INSTALLED = 'not installed'  # note of a library that is missing
# Distributions whose name is not that of the module they install.
DISTRIBUTIONS = {
    'PIL': 'pillow',
    'cv2': 'opencv-python-headless',
    'imgaug': 'imaug',
    'skimage': 'scikit-image',
    'yaml': 'pyyaml',
}


def installed_version(distribution: str) -> str | None:
    """Version of an installed distribution, None when it is not installed."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def find_families() -> dict[str, list[str]]:
    """List the installed distributions of each mm family.

    Both families ship the same import packages, so only the distribution names tell them apart.
    """
    extra = {'openmmlab': ['mmcv', 'mmcv-full'], 'onedl': []}
    found = {}
    for family, pins in FAMILIES.items():
        names = [pin.split('==')[0] for pin in pins.values()] + extra[family]
        found[family] = [name for name in names if installed_version(name) is not None]
    return found


def installed_family() -> str:
    """The family whose distributions are named to the user."""
    return family_of(find_families())


def family_of(families: Mapping[str, Sequence[str]]) -> str:
    """The family of the installed distributions: upstream only where it alone is there."""
    return 'openmmlab' if families['openmmlab'] and not families['onedl'] else 'onedl'


def pip_install(what: str) -> str:
    """Shell command that installs requirements into the environment of this interpreter."""
    return f'{shlex.quote(sys.executable)} -m pip install {what}'


def fix_for(module: str, family: str, note: str = '') -> str:
    """Shell command that mends ``module``.

    Args:
        module: Import name of the library whose probe failed.
        family: ``onedl`` or ``openmmlab``: whose distributions to name.
        note: Last line of the error, which may name another culprit.
    """
    if 'libGL.so' in note:
        return 'apt-get install -y libgl1'
    culprit = re.search(r"No module named '(\w+)", note)
    if culprit and culprit[1] != module:
        known = culprit[1] in FAMILIES[family] or culprit[1] in CORE
        return (
            fix_for(culprit[1], family)
            if known
            else pip_install(DISTRIBUTIONS.get(culprit[1], culprit[1]))
        )
    if module == 'mmcv' and note not in ('', NOT_INSTALLED):
        return compile_mmcv(family)
    if module in FAMILIES[family]:
        return pip_install(FAMILIES[family][module])
    return pip_install(CORE[module])


def compile_mmcv(family: str) -> str:
    """Shell command that compiles mmcv's operators, in the place of an mmcv without them.

    Without build isolation it compiles against the torch that is really here, and pip's own cache
    is bypassed because it does not know which torch a wheel was compiled for.
    """
    tools = pip_install("ninja 'setuptools>=80,<81' wheel opencv-python-headless addict yapf")
    build = pip_install('--no-build-isolation --no-cache-dir --force-reinstall --no-deps')
    # Without it a build on a login node, which sees no GPU, would lack the CUDA operators.
    for_cuda = find_nvcc() and not (installed_version('torch') or '').endswith('+cpu')
    cuda = 'FORCE_CUDA=1 ' if for_cuda else ''
    lite = f'{shlex.quote(sys.executable)} -m pip uninstall -y mmcv-lite && '
    uninstall = lite if installed_version('mmcv-lite') else ''
    return f'{uninstall}{tools} && {cuda}MMCV_WITH_OPS=1 {build} {MMCV_WITH_OPS[family]}'


def find_nvcc() -> str | None:
    """Path of the CUDA compiler."""
    home = os.environ.get('CUDA_HOME') or os.environ.get('CUDA_PATH') or '/usr/local/cuda'
    return shutil.which('nvcc') or shutil.which('nvcc', path=str(Path(home) / 'bin'))
