"""``make demo``: install the core, then refine a small ViT and show what changed."""

from __future__ import annotations

from environment import install_core, venv_python
from steps import Chain, main, run


def chain() -> None:
    """Install and run the demo."""
    steps = Chain('make demo')
    steps.must(
        'install torch, torchvision and refineclip into .venv (minutes the first time)',
        install_core,
    )
    steps.must('run the demo', lambda: run([venv_python(), '-m', 'refineclip', 'demo']))
    steps.finish('done')


if __name__ == '__main__':
    main(chain)
