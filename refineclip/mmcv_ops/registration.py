"""Give mmcv the one module that it lacks when it was installed without a compiler."""

from __future__ import annotations

import importlib
import importlib.util
import sys
import warnings
from importlib.machinery import PathFinder

EXTENSION = 'mmcv._ext'
STAND_IN = 'refineclip.mmcv_ops.extension'
# OneDL's packages try mmcv.ops when these are imported, and go on without where that fails.
USERS = ('mmdet.structures', 'mmdet.utils', 'mmdet.models', 'mmseg.utils', 'mmseg.models')


def has_compiled_ops() -> bool | None:
    """Whether mmcv has compiled operators; None where it is not installed."""
    mmcv = importlib.util.find_spec('mmcv')
    if mmcv is None:
        return None
    return PathFinder.find_spec(EXTENSION, mmcv.submodule_search_locations) is not None


def stands_in() -> bool:
    """Whether mmcv's Python code calls torchvision's operators in this process."""
    return EXTENSION in sys.modules and sys.modules[EXTENSION] is sys.modules.get(STAND_IN)


def register() -> None:
    """Stand in for mmcv's compiled extension, if mmcv is installed and has none.

    ``mmcv.ops`` itself stays mmcv's: its functions, autograd classes and registered layers find
    torchvision's kernels where they look for their own.

    Raises:
        ImportError: If mmdet or mmseg were imported before, without operators.
    """
    if has_compiled_ops() is not False or stands_in():
        return
    early = [name for name in USERS if name in sys.modules]
    if early:
        raise ImportError(
            f'expected refineclip.mmcv_ops to be imported before mmdet and mmseg, got {early[0]} '
            'already imported without the operators of mmcv: import refineclip.mmcv_ops first, or '
            'start the run with `mim train refineclip-mm` or tools/train.py'
        )
    sys.modules[EXTENSION] = importlib.import_module(STAND_IN)
    warnings.warn(
        'mmcv has no compiled operators: refineclip.mmcv_ops stands in for them with those of '
        'torchvision (`python -m refineclip doctor` says more)',
        stacklevel=1,
    )
