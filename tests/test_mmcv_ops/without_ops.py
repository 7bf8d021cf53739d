"""Another process that sees the installed mmcv without its compiled extension."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def environment(folder: Path) -> dict[str, str]:
    """Variables that put a copy of mmcv, made of links and less the extension, first."""
    spec = importlib.util.find_spec('mmcv')
    assert spec is not None
    assert spec.origin is not None
    copy = folder / 'mmcv'
    copy.mkdir(parents=True)
    for entry in Path(spec.origin).parent.iterdir():
        if not entry.name.startswith('_ext.'):
            (copy / entry.name).symlink_to(entry)
    path = os.pathsep.join([str(folder), str(ROOT)])
    return {**os.environ, 'PYTHONPATH': path, 'CUDA_VISIBLE_DEVICES': ''}


def run(code: str, folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run Python there."""
    return subprocess.run(
        [sys.executable, '-c', code, *arguments],
        env=environment(folder),
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
