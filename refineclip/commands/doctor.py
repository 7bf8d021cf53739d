"""``python -m refineclip doctor``: what is installed, what is missing, and how to mend it.

Nothing heavy is imported at the top: the command has to work where torch or mmengine is missing.
Every library is probed in a child process, because a compiled extension that was built for another
torch can take the whole process down instead of raising.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from .columns import align

OK, SLOW, MISSING, BROKEN = 'ok', 'slow', 'missing', 'broken'
PROBE_TIMEOUT = 180  # seconds; a first import on a cold disk takes tens of seconds
PARALLEL = 4  # imports at a time

# Distributions that install the same import package, per family; the first that is asked for is
# what the fix names. Versions: what the tests run with, and the upstream set that imports whole.
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
        'mmcv': 'mmcv==2.1.0',
        'mmdet': 'mmdet==3.3.0',
        'mmseg': 'mmsegmentation==1.2.2',
    },
}
CORE = {
    'torch': 'torch==2.11.0 torchvision==0.26.0',
    'torchvision': 'torch==2.11.0 torchvision==0.26.0',
    'open_clip': 'open-clip-torch==3.3.0',
    'timm': 'timm==1.0.31',
    'mmengine': '',  # depends on the family
}
OPTIONAL = ('mmcv', 'mmdet', 'mmseg')
# Distributions whose name is not that of the module they install.
DISTRIBUTIONS = {
    'PIL': 'pillow',
    'cv2': 'opencv-python-headless',
    'imgaug': 'imaug',
    'skimage': 'scikit-image',
    'yaml': 'pyyaml',
}

# Each probe prints one JSON line {"version": ..., "note": ...} as its last line.
PROBES = {
    'torch': """
import torch
if tuple(int(part) for part in torch.__version__.split('.')[:2]) < (2, 4):
    raise RuntimeError('expected torch 2.4 or newer')
gpus = [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())]
version = torch.__version__
note = 'no GPU that torch can use: runs on the CPU'
if gpus and torch.cuda.is_available():
    bf16 = torch.cuda.is_bf16_supported(including_emulation=False)
    note = f'GPU {", ".join(gpus)}; bf16 ' + ('yes' if bf16 else 'no')
""",
    'torchvision': """
import torch, torchvision
from torchvision.ops import nms, roi_align
for device in ['cpu'] + ['cuda'] * torch.cuda.is_available():
    boxes = torch.tensor([[0., 0., 4., 4.], [0., 0., 4., 4.]], device=device)
    scores, ones = torch.tensor([.9, .8], device=device), torch.ones(1, 1, 8, 8, device=device)
    assert nms(boxes, scores, 0.5).tolist() == [0], f'nms is wrong on {device}'
    assert roi_align(ones, [boxes], 2).sum().item() == 8, f'roi_align is wrong on {device}'
version, note = torchvision.__version__, f'ops run on {device}'
""",
    'mmcv': """
import mmcv, torch
from mmcv.ops import nms, roi_align
for device in ['cpu'] + ['cuda'] * torch.cuda.is_available():
    boxes = torch.tensor([[0., 0., 4., 4.], [0., 0., 4., 4.]], device=device)
    scores, ones = torch.tensor([.9, .8], device=device), torch.ones(1, 1, 8, 8, device=device)
    assert nms(boxes, scores, 0.5)[1].tolist() == [0], f'nms is wrong on {device}'
    rois = torch.tensor([[0., 0., 0., 4., 4.]], device=device)
    assert roi_align(ones, rois, 2).sum().item() == 4, f'roi_align is wrong on {device}'
version, note = mmcv.__version__, f'compiled ops run on {device}'
""",
}
# The top of these imports without what the rest of them needs.
SUBMODULES = {
    'mmengine': 'mmengine.runner',
    'mmdet': 'mmdet.models, mmdet.datasets',
    'mmseg': 'mmseg.models, mmseg.datasets',
}
PLAIN_PROBE = """
import {module}, {submodule}
version, note = getattr({module}, '__version__', '?'), ''
"""
PROBE_END = """
import json
print(json.dumps(dict(version=version, note=note)))
"""


@dataclass
class Finding:
    """One row of the table.

    Args:
        name: Import name.
        state: ``ok``, ``slow`` (not imported in time), ``missing`` or ``broken``.
        version: Version as the library states it, '-' when it is not there.
        note: What was seen, in words.
        fix: Shell command that mends it, empty when nothing is to mend.
        core: Whether the two training stages need it.
    """

    name: str
    state: str
    version: str = '-'
    note: str = ''
    fix: str = ''
    core: bool = False


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
    extra = {'openmmlab': ['mmcv-lite', 'mmcv-full'], 'onedl': []}
    found = {}
    for family, pins in FAMILIES.items():
        names = [pin.split('==')[0] for pin in pins.values()] + extra[family]
        found[family] = [name for name in names if installed_version(name) is not None]
    return found


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
    if module == 'mmcv':
        # Without build isolation it compiles against the torch that is really here, and pip's own
        # cache is bypassed because it does not know which torch a wheel was compiled for.
        build = pip_install('--no-build-isolation --no-cache-dir --force-reinstall --no-deps')
        tools = pip_install("ninja 'setuptools>=80,<81' wheel opencv-python-headless addict yapf")
        # Without it a build on a login node, which sees no GPU, would lack the CUDA operators.
        for_cuda = find_nvcc() and not (installed_version('torch') or '').endswith('+cpu')
        cuda = 'FORCE_CUDA=1 ' if for_cuda else ''
        return f'{tools} && {cuda}MMCV_WITH_OPS=1 {build} {FAMILIES[family]["mmcv"]}'
    if module in FAMILIES[family]:
        return pip_install(FAMILIES[family][module])
    return pip_install(CORE[module])


def find_nvcc() -> str | None:
    """Path of the CUDA compiler."""
    home = os.environ.get('CUDA_HOME') or os.environ.get('CUDA_PATH') or '/usr/local/cuda'
    return shutil.which('nvcc') or shutil.which('nvcc', path=str(Path(home) / 'bin'))


def examine_nvcc() -> Finding:
    """Judge whether mmcv's operators can be compiled for the GPU."""
    if found := find_nvcc():
        return Finding('nvcc', OK, '-', found)
    note = 'not needed: no NVIDIA driver here'
    if shutil.which('nvidia-smi'):
        note = "to compile mmcv here, install the CUDA toolkit of torch's version, set CUDA_HOME"
    return Finding('nvcc', MISSING, '-', note)


def probe(module: str) -> tuple[str, str, str]:
    """Import and try one library in a child process.

    Returns:
        State, version and note.
    """
    plain = PLAIN_PROBE.format(module=module, submodule=SUBMODULES.get(module, module))
    code = PROBES.get(module, plain) + PROBE_END
    command = [sys.executable, '-W', 'ignore', '-c', code]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=PROBE_TIMEOUT)
    except subprocess.TimeoutExpired:
        note = f'not imported within {PROBE_TIMEOUT} s: a busy machine or a cold disk; run it again'
        return SLOW, '?', note
    if done.returncode == 0:
        answer = json.loads(done.stdout.strip().splitlines()[-1])
        return OK, answer['version'], answer['note']
    if done.returncode < 0:
        return BROKEN, '?', f'the import killed the process (signal {-done.returncode})'
    error = (done.stderr.strip().splitlines() or ['no message'])[-1]
    if error == f"ModuleNotFoundError: No module named '{module}'":
        return MISSING, '-', 'not installed'
    return BROKEN, '?', error[:160]


def examine() -> list[Finding]:
    """Probe Python, the core and the mm stack."""
    families = find_families()
    family = 'openmmlab' if families['openmmlab'] and not families['onedl'] else 'onedl'
    findings = [Finding('python', OK, platform.python_version(), sys.executable, core=True)]
    modules = (*CORE, *OPTIONAL)
    with ThreadPoolExecutor(max_workers=PARALLEL) as pool:
        answers = list(pool.map(probe, modules))
    for module, (state, version, note) in zip(modules, answers, strict=True):
        finding = Finding(module, state, version, note, core=module in CORE)
        if state in (MISSING, BROKEN):
            finding.fix = fix_for(module, family, note)
        findings.append(finding)
    return [*findings, examine_nvcc(), examine_families(families)]


def examine_families(families: dict[str, list[str]]) -> Finding:
    """Judge whether the mm packages come from one family."""
    present = [name for name, distributions in families.items() if distributions]
    if not present:
        return Finding('mm family', MISSING, '-', 'neither OneDL nor upstream OpenMMLab')
    if len(present) == 1:
        return Finding('mm family', OK, present[0], ', '.join(families[present[0]]))
    both = families['onedl'] + families['openmmlab']
    uninstall = f'{shlex.quote(sys.executable)} -m pip uninstall -y {" ".join(both)}'
    wanted = ' '.join(pin for pin in FAMILIES['onedl'].values() if not pin.startswith('onedl-mmcv'))
    return Finding(
        'mm family',
        BROKEN,
        'both',
        'two families overwrite each other: ' + ', '.join(both),
        f'{uninstall} && {pip_install(wanted)} && {fix_for("mmcv", "onedl")}',
        core=True,
    )


def report(findings: Sequence[Finding]) -> str:
    """Lay the findings out as a table, then the commands, then one line of verdict."""
    rows = [(item.name, item.version, item.state, item.note) for item in findings]
    lines = [align([('', 'version', 'state', 'note'), *rows])]
    fixes: dict[str, list[str]] = {}
    for item in findings:
        if item.fix:
            fixes.setdefault(item.fix, []).append(item.name)
    if fixes:
        lines += ['', 'To mend it:']
        lines += [f'  {", ".join(names)}:\n    {command}' for command, names in fixes.items()]
    lines += ['', verdict(findings)]
    return '\n'.join(lines)


def core_runs(findings: Sequence[Finding]) -> bool:
    """Whether the encoders and the two training stages can run, as far as was seen."""
    return all(item.state in (OK, SLOW) for item in findings if item.core)


def verdict(findings: Sequence[Finding]) -> str:
    """Say in one line what can be done with this environment."""
    if not core_runs(findings):
        return f'doctor: the core cannot run ({_names_in(findings, MISSING, BROKEN, core=True)})'
    slow = _names_in(findings, SLOW)
    so_far = f', as far as was seen (slow: {slow})' if slow else ''
    if absent := _names_in(findings, MISSING, BROKEN, core=False):
        return f'doctor: the core runs{so_far}; detection and segmentation do not ({absent})'
    return f'doctor: everything runs{so_far}'


def _names_in(findings: Sequence[Finding], *states: str, core: bool | None = None) -> str:
    """Libraries in one of the states; those of the core, the optional ones, or all."""
    return ', '.join(
        item.name
        for item in findings
        if item.state in states and (core is None or (item.core if core else item.name in OPTIONAL))
    )


def main(argv: Sequence[str] | None = None) -> int:
    """Print the table.

    Returns:
        1 if the core cannot run, else 0.
    """
    argparse.ArgumentParser(
        prog='python -m refineclip doctor',
        description='Say what is installed, what is missing and the command that mends it.',
    ).parse_args(argv)
    findings = examine()
    sys.stdout.write(report(findings) + '\n')
    return 0 if core_runs(findings) else 1
