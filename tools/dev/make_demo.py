"""``make demo``: install the core, then run the demo; arguments are passed on to it."""

from __future__ import annotations

import sys

from environment import install_core, venv_python
from steps import Chain, main, run


def chain() -> None:
    """Install and run the demo."""
    arguments = sys.argv[1:]
    steps = Chain('make demo-long' if arguments else 'make demo')
    steps.must(
        'install torch, torchvision and refineclip into .venv (minutes the first time)',
        install_core,
    )
    command = [venv_python(), '-m', 'refineclip', 'demo', *arguments]
    steps.must('run the demo', lambda: run(command))
    steps.finish('done')


if __name__ == '__main__':
    main(chain)
