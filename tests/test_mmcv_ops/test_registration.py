"""The stand-in is there where mmcv is not compiled, in time, and says so once."""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from refineclip import mmcv_ops

from . import without_ops

NO_STOCK_NAME_IS_LOST = """
import warnings
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter('always')
    import refineclip.detection, refineclip.segmentation
said = [str(one.message) for one in caught if 'refineclip.mmcv_ops' in str(one.message)]
assert len(said) == 1, said
import mmcv.ops, mmdet.models, mmseg.models
assert refineclip.mmcv_ops.stands_in() and not refineclip.mmcv_ops.has_compiled_ops()
from mmengine.registry import MODELS
layers = mmcv.ops.RoIAlign, mmcv.ops.DeformConv2dPack, mmcv.ops.ModulatedDeformConv2dPack
mmcv.ops.RoIPool(2, 1.0), mmcv.ops.MaskedConv2d(1, 1, 1), mmcv.ops.CARAFEPack(4, 2)
assert all(one.__module__.startswith('mmcv.ops.') for one in layers)
assert MODELS.get('DCNv2') is layers[2]
from mmdet.models import SingleRoIExtractor
extractor = SingleRoIExtractor(dict(type='RoIAlign', output_size=7), 4, [4])
assert type(extractor.roi_layers[0]) is mmcv.ops.RoIAlign
"""

TOO_LATE = """
import warnings
warnings.simplefilter('error')
import sys, types
sys.modules['mmdet.models'] = types.ModuleType('mmdet.models')
import refineclip.mmcv_ops
"""


def test_nothing_is_registered_where_mmcv_is_compiled() -> None:
    if not mmcv_ops.has_compiled_ops():
        pytest.skip('needs mmcv with compiled operators: make test OPS=compiled')
    module = importlib.import_module('mmcv._ext')
    mmcv_ops.register()
    assert not mmcv_ops.stands_in()
    assert sys.modules['mmcv._ext'] is module
    assert Path(module.__file__).suffix == '.so'


def test_nothing_is_registered_nor_imported_where_mmcv_is_not_installed() -> None:
    code = (
        'import importlib.util, sys; importlib.util.find_spec = lambda name: None;'
        'import refineclip.mmcv_ops as ops; assert ops.has_compiled_ops() is None;'
        'assert not {"torch", "mmcv", "mmcv._ext"} & set(sys.modules)'
    )
    subprocess.run([sys.executable, '-c', code], check=True, cwd=without_ops.ROOT)


@pytest.mark.mm
@pytest.mark.slow
def test_rooms_register_it_once_before_mmdet_and_mmseg(tmp_path) -> None:
    done = without_ops.run(NO_STOCK_NAME_IS_LOST, tmp_path)
    assert done.returncode == 0, done.stderr


@pytest.mark.mm
def test_mmdet_imported_before_is_named(tmp_path) -> None:
    done = without_ops.run(TOO_LATE, tmp_path)
    assert done.returncode == 1
    assert 'got mmdet.models already imported without the operators' in done.stderr


@pytest.mark.mm
@pytest.mark.slow
def test_doctor_names_the_stand_in(tmp_path) -> None:
    code = (
        'from refineclip.commands import doctor; doctor.PROBE_TIMEOUT = None;'
        'print(doctor.probe("mmcv"), doctor.probe("mmdet"))'
    )
    done = without_ops.run(code, tmp_path)
    assert "('ok', " in done.stdout, done.stderr
    assert 'torchvision ops, by refineclip.mmcv_ops, run on cpu' in done.stdout
    assert done.stdout.count("('ok', ") == 2
