"""``make docs``: install what builds the site, then build it into ``build/site``."""

from __future__ import annotations

from environment import REQUIREMENTS, create_venv, install_group, venv_python
from steps import Chain, main, run


def chain() -> None:
    """Install and build; a warning is an error (``strict`` in mkdocs.yml)."""
    steps = Chain('make docs')
    steps.must('make .venv', create_venv)
    steps.must('install mkdocs', lambda: install_group('docs', REQUIREMENTS / 'docs.txt'))
    # mkdocs-material would print that it has a successor.
    build = [venv_python(), '-m', 'mkdocs', 'build', '--quiet']
    steps.must('build', lambda: run(build, extra_env={'NO_MKDOCS_2_WARNING': '1'}))
    steps.finish('build/site/index.html')


if __name__ == '__main__':
    main(chain)
