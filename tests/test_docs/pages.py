"""Pages of the repository, and the commands and code in them."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from mmengine.config import Config

ROOT = Path(__file__).resolve().parents[2]
FOLDERS = ('docs', 'configs', 'projects', 'benchmarks', 'refineclip')
TOP = ('README.md', 'CONTRIBUTING.md', 'CHANGELOG.md')
PAGES = [
    *(ROOT / name for name in TOP),
    *(page for name in FOLDERS for page in sorted((ROOT / name).rglob('*.md'))),
]
CONFIGS = {
    path.name: path
    for pattern in ('configs/**/*.py', 'projects/*/configs/*.py')
    for path in ROOT.glob(pattern)
}
PROGRAMS = ('python', 'mim', 'pip', 'make', 'torchrun', 'srun', 'jupyter')
# In bash every program of the pages is a function that writes down how it was called; `python -`
# also what it was given to read.
PRELUDE = r"""
record() {
    printf '%s\x1f' "$@"
    if [ "${2-}" = - ]; then read -r -d '' text; printf '%s\x1f' "$text"; fi
    printf '\x1e'
}
for name in PROGRAMS; do eval "$name() { record $name \"\$@\"; }"; done
PATH=
"""


def name_of(page: Path) -> str:
    """Path in the repository, the name of a parametrised test."""
    return str(page.relative_to(ROOT))


def blocks(page: Path, language: str) -> list[str]:
    """Fenced blocks of a page."""
    text = page.read_text(encoding='utf-8')
    return re.findall(rf'^```{language}\n(.*?)^```', text, flags=re.DOTALL | re.MULTILINE)


def commands(page: Path) -> list[list[str]]:
    """Commands of all ``bash`` blocks, as bash itself splits them; no program is run.

    Raises:
        ValueError: If bash does not understand a line, or a program is none of those known.
    """
    script = PRELUDE.replace('PROGRAMS', ' '.join(PROGRAMS)) + '\n'.join(blocks(page, 'bash'))
    done = subprocess.run(['bash', '-f', '-c', script], capture_output=True, text=True, check=False)
    if done.stderr:
        raise ValueError(f'{name_of(page)}: {done.stderr}')
    calls = done.stdout.split('\x1e')[:-1]
    return [call.split('\x1f')[:-1] for call in calls]


def holds(config: Config, key: str) -> bool:
    """Whether a config has a key as ``--cfg-options`` names it."""
    node = config
    for part in key.split('.'):
        if not hasattr(node, 'keys') or part not in node:
            return False
        node = node[part]
    return True
