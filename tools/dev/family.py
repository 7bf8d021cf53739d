"""The two families of OpenMMLab packages; ``FAMILY=`` on the make command line chooses.

They share their import names, so each has an environment of its own.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from steps import ROOT, StepError


@dataclass(frozen=True)
class Family:
    """Distributions of a family; the versions are those of requirements/constraints.txt.

    Args:
        extra: Its name, which is that of the extra in setup.py.
        venv: Folder of the environment that the tests run in.
        clean_env: Name of the environment, in the user's cache, that the wheel is tried in.
        engine: What the core needs of it.
        mmcv: Brings operators if it is compiled.
        mmcv_without_ops: Installs in seconds; refineclip.mmcv_ops stands in for the operators.
        libraries: mmdet, mmseg and what they import, installed without their requirements.
        mim: The command-line tool, whose own pins may not be ours.
        foreign: Distributions of the other family, which would overwrite these.
    """

    extra: str
    venv: Path
    clean_env: str
    engine: tuple[str, ...]
    mmcv: str
    mmcv_without_ops: str
    libraries: tuple[str, ...]
    mim: str
    foreign: tuple[str, ...]


ONEDL = Family(
    'onedl',
    ROOT / '.venv',
    'clean-env',
    # The first imports the second without asking for it.
    ('onedl-mmengine', 'opencv-python-headless'),
    'onedl-mmcv',
    'onedl-mmcv',
    ('imaug', 'lvis', 'onedl-mmdetection', 'onedl-mmsegmentation'),
    'onedl-mim==0.5.1',
    ('mmengine', 'mmcv', 'mmcv-lite', 'mmdet', 'mmsegmentation'),
)
OPENMMLAB = Family(
    'openmmlab',
    ROOT / '.venv-openmmlab',
    'clean-openmmlab',
    ('mmengine', 'opencv-python-headless'),
    'mmcv',
    'mmcv-lite',
    ('lvis', 'mmdet', 'mmsegmentation'),
    'openmim==0.3.9',
    ('onedl-mmengine', 'onedl-mmcv', 'onedl-mmdetection', 'onedl-mmsegmentation'),
)
FAMILIES = {family.extra: family for family in (ONEDL, OPENMMLAB)}


def chosen() -> Family:
    """The family that the environment variable ``FAMILY`` names."""
    name = os.environ.get('FAMILY') or ONEDL.extra
    if name not in FAMILIES:
        raise StepError(f'FAMILY: expected one of {", ".join(FAMILIES)}, got {name!r}')
    return FAMILIES[name]
