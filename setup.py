"""Build script of the distribution ``refineclip-mm`` (import package ``refineclip``).

The configs, the launchers and the model index stay at the top of the repository and are copied
into ``refineclip/.mim`` while a wheel is built, which is where ``mim`` looks for them. The
distribution has a suffix and no console script because of how ``mim`` finds the package folder:
it takes the first line of the wheel's RECORD.
"""

from __future__ import annotations

import ast
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py

ROOT = Path(__file__).resolve().parent
MODULE = 'refineclip'
MIM_ENTRIES = ('configs', 'tools', 'model-index.yml')
NOT_FOR_USERS = shutil.ignore_patterns('__pycache__', '*.pyc', 'dev')


class BuildWithMim(build_py):
    """Copy what ``mim`` needs into the wheel; an editable install reads the repository itself."""

    def run(self) -> None:
        """Build the package, then lay ``.mim`` into it."""
        super().run()
        if self.editable_mode:
            return
        target = Path(self.build_lib) / MODULE / '.mim'
        shutil.rmtree(target, ignore_errors=True)
        target.mkdir(parents=True)
        for name in MIM_ENTRIES:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, target / name, ignore=NOT_FOR_USERS)
            else:
                shutil.copy2(source, target / name)


def read_version() -> str:
    """Read ``__version__`` from the source text, so that a build needs no dependency."""
    tree = ast.parse((ROOT / MODULE / '__init__.py').read_text(encoding='utf-8'))
    for node in tree.body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == '__version__':
            return str(ast.literal_eval(node.value))
    raise ValueError(f'expected a __version__ in {MODULE}/__init__.py, got none')


def read_requirements(name: str) -> list[str]:
    """Read the requirement lines of ``requirements/<name>.txt``."""
    lines = (ROOT / 'requirements' / f'{name}.txt').read_text(encoding='utf-8').splitlines()
    return [line.split('#')[0].strip() for line in lines if line.split('#')[0].strip()]


def read_readme() -> str:
    """Read the long description; empty while there is no README."""
    path = ROOT / 'README.md'
    return path.read_text(encoding='utf-8') if path.is_file() else ''


setup(
    name='refineclip-mm',
    version=read_version(),
    description='Spatially aware CLIP vision transformers by distillation, for mmdet and mmseg',
    long_description=read_readme(),
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    license_files=['LICENSE'],
    python_requires='>=3.10',
    packages=find_packages(include=[MODULE, f'{MODULE}.*']),
    package_data={MODULE: ['py.typed', 'assets/*/*']},
    cmdclass={'build_py': BuildWithMim},
    zip_safe=False,
    # mmengine is needed but is no hard requirement: onedl-mmengine and mmengine ship the same
    # import package, and pip, which knows only distribution names, would install the one we name
    # over the other. So the user picks an extra, and `python -m refineclip doctor` says which. An
    # extra brings mmcv without operators, which needs no compiler: refineclip.mmcv_ops stands in.
    install_requires=read_requirements('runtime'),
    extras_require={
        'onedl': read_requirements('onedl'),
        'openmmlab': read_requirements('openmmlab'),
        'app': read_requirements('app'),
        'demo': read_requirements('demo'),
        'export': read_requirements('export'),
        'shards': read_requirements('shards'),
        'tests': read_requirements('tests'),
        'docs': read_requirements('docs'),
    },
    classifiers=[
        'Intended Audience :: Science/Research',
        'Programming Language :: Python :: 3',
        'Topic :: Scientific/Engineering :: Artificial Intelligence',
        'Typing :: Typed',
    ],
)
