"""``python -m refineclip doctor``: what is installed, what is missing, and how to mend it.

Nothing heavy is imported at the top: the command has to work where torch or mmengine is missing.
Every library is probed in a child process, because a compiled extension that was built for another
torch can take the whole process down instead of raising.
"""

from __future__ import annotations

import json
import platform
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from refineclip.installation import (
    CORE,
    EXTRAS,
    FAMILIES,
    NOT_INSTALLED,
    compile_mmcv,
    family_of,
    find_families,
    find_nvcc,
    fix_for,
    installed_version,
    pip_install,
)

from .columns import align
from .help_text import command_parser

OPTIONAL = ('mmcv', 'mmdet', 'mmseg')
OK, SLOW, MISSING, BROKEN = 'ok', 'slow', 'missing', 'broken'
PROBE_TIMEOUT = 180  # seconds; a first import on a cold disk takes tens of seconds
PARALLEL = 4  # imports at a time

STAND_IN = 'torchvision ops, by refineclip.mmcv_ops,'

# Each probe prints one JSON line {"version": ..., "note": ...} as its last line.
PROBES = {
    'torch': """
import torch
if tuple(int(part) for part in torch.__version__.split('.')[:2]) < (2, 6):
    raise RuntimeError('expected torch 2.6 or newer')
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
    'mmcv': f"""
import mmcv, torch
from refineclip.mmcv_ops import stands_in
from mmcv.ops import nms, roi_align
for device in ['cpu'] + ['cuda'] * torch.cuda.is_available():
    boxes = torch.tensor([[0., 0., 4., 4.], [0., 0., 4., 4.]], device=device)
    scores, ones = torch.tensor([.9, .8], device=device), torch.ones(1, 1, 8, 8, device=device)
    assert nms(boxes, scores, 0.5)[1].tolist() == [0], f'nms is wrong on {{device}}'
    rois = torch.tensor([[0., 0., 0., 4., 4.]], device=device)
    assert roi_align(ones, rois, 2).sum().item() == 4, f'roi_align is wrong on {{device}}'
ops = {STAND_IN!r} if stands_in() else 'compiled ops'
version, note = mmcv.__version__, f'{{ops}} run on {{device}}'
""",
}
# The top of these imports without what the rest of them needs.
SUBMODULES = {
    'mmengine': 'mmengine.runner',
    'mmdet': 'mmdet.models, mmdet.datasets',
    'mmseg': 'mmseg.models, mmseg.datasets',
}
PLAIN_PROBE = """
{first}import {module}, {submodule}
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
        option: Shell command that improves it, empty when there is none.
        core: Whether the two training stages need it.
    """

    name: str
    state: str
    version: str = '-'
    note: str = ''
    fix: str = ''
    option: str = ''
    core: bool = False


def examine_compiler() -> Finding:
    """Look for a C++ compiler, which nothing but compiling mmcv's operators asks for."""
    if found := shutil.which('g++') or shutil.which('c++'):
        return Finding('c++', OK, '-', found)
    return Finding('c++', MISSING, '-', "not needed: only mmcv's own operators are compiled")


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
    first = 'import refineclip.mmcv_ops\n' if module in OPTIONAL else ''
    plain = PLAIN_PROBE.format(first=first, module=module, submodule=SUBMODULES.get(module, module))
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
        return MISSING, '-', NOT_INSTALLED
    return BROKEN, '?', error[:160]


def examine() -> list[Finding]:
    """Probe Python, the core and the mm stack."""
    families = find_families()
    family = family_of(families)
    findings = [Finding('python', OK, platform.python_version(), sys.executable, core=True)]
    modules = (*CORE, *OPTIONAL)
    with ThreadPoolExecutor(max_workers=PARALLEL) as pool:
        answers = list(pool.map(probe, modules))
    for module, (state, version, note) in zip(modules, answers, strict=True):
        finding = Finding(module, state, version, note, core=module in CORE)
        if state in (MISSING, BROKEN):
            finding.fix = fix_for(module, family, note)
        if note.startswith(STAND_IN):
            finding.option = compile_mmcv(family)
        findings.append(finding)
    extras = [examine_extra(name) for name in EXTRAS]
    return [*findings, *extras, examine_compiler(), examine_nvcc(), examine_families(families)]


def examine_extra(extra: str) -> Finding:
    """Look for what a command beyond training and measuring needs, without importing it."""
    pins = EXTRAS[extra]
    versions = {name: installed_version(name) for name in pins}
    present = ', '.join(f'{name} {version}' for name, version in versions.items() if version)
    lacking = [name for name, version in versions.items() if version is None]
    if not lacking:
        return Finding(f'[{extra}]', OK, '-', present)
    return Finding(
        f'[{extra}]',
        MISSING,
        '-',
        f'python -m refineclip {extra} lacks {", ".join(lacking)}',
        option=pip_install(shlex.join(pins[name] for name in lacking)),
    )


def examine_families(families: dict[str, list[str]]) -> Finding:
    """Judge whether the mm packages come from one family."""
    present = [name for name, distributions in families.items() if distributions]
    if not present:
        return Finding('mm family', MISSING, '-', 'neither OneDL nor upstream OpenMMLab')
    if len(present) == 1:
        return Finding('mm family', OK, present[0], ', '.join(families[present[0]]))
    both = families['onedl'] + families['openmmlab']
    uninstall = f'{shlex.quote(sys.executable)} -m pip uninstall -y {" ".join(both)}'
    return Finding(
        'mm family',
        BROKEN,
        'both',
        'two families overwrite each other: ' + ', '.join(both),
        f'{uninstall} && {pip_install(" ".join(FAMILIES["onedl"].values()))}',
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
    for item in findings:
        if item.option:
            what = (
                f'To add {item.name}'
                if item.state == MISSING
                else f'To compile the operators of {item.name} itself'
            )
            lines += ['', f'{what}:', f'    {item.option}']
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
    command_parser(
        'doctor', 'Say what is installed, what is missing and the command that mends it.', ''
    ).parse_args(argv)
    findings = examine()
    sys.stdout.write(report(findings) + '\n')
    return 0 if core_runs(findings) else 1
