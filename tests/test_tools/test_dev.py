"""The scripts behind ``make``: how failures are told, and that nothing untested is trusted."""

from __future__ import annotations

import importlib
import os
import sys
import zipfile
from pathlib import Path
from types import ModuleType

import pytest
import torch


@pytest.fixture
def dev(repo_root: Path, monkeypatch: pytest.MonkeyPatch):
    """Import a script of tools/dev the way it is run: with its own folder on the path."""
    monkeypatch.syspath_prepend(str(repo_root / 'tools' / 'dev'))

    def load(name: str) -> ModuleType:
        return importlib.import_module(name)

    yield load
    for name in ('steps', 'family', 'environment', 'distributions', 'mm_stack', 'make_test'):
        sys.modules.pop(name, None)


def test_chain_names_every_failed_check(dev, capsys: pytest.CaptureFixture[str]) -> None:
    steps = dev('steps')

    def fail() -> None:
        raise steps.StepError('because')

    chain = steps.Chain('make test')
    chain.check('lint', fail)
    assert chain.check('tests', lambda: 12) == 12
    chain.check('types', fail)
    with pytest.raises(SystemExit) as caught:
        chain.finish('all green')
    assert caught.value.code == 1
    last = capsys.readouterr().out.splitlines()[-1]
    assert last == 'make test: FAILED after 0 s: lint; types'


def test_chain_stops_at_a_failed_installation(dev, capsys) -> None:
    steps = dev('steps')
    with pytest.raises(SystemExit) as caught:
        steps.Chain('make demo').must('install', lambda: steps.run(['false']))
    assert caught.value.code == 1
    assert 'exit status 1 from: false' in capsys.readouterr().out


def test_failing_tests_are_named_at_the_end(dev, monkeypatch, capsys):
    make_test, steps = dev('make_test'), dev('steps')
    printed = (
        'F\nFAILED tests/test_a.py::test_b - AssertionError\nERROR tests/test_c.py\n1 failed\n'
    )
    monkeypatch.setattr(make_test, 'venv_python', lambda: 'sh')
    monkeypatch.setattr(
        make_test,
        'run',
        lambda command, **_: steps.run(['sh', '-c', f'printf "{printed}"; exit 1']),
    )
    chain = steps.Chain('make test')
    assert chain.check('pytest', make_test.run_pytest) is None
    chain.check('mim', lambda: steps.say('much more'))
    with pytest.raises(SystemExit):
        chain.finish('')
    assert capsys.readouterr().out.splitlines()[-3:] == [
        'FAILED tests/test_a.py::test_b - AssertionError',
        'ERROR tests/test_c.py',
        'make test: FAILED after 0 s: pytest',
    ]


def test_chain_ends_green_with_one_line(dev, capsys) -> None:
    with pytest.raises(SystemExit) as caught:
        dev('steps').Chain('make test').finish('all green')
    assert caught.value.code == 0
    assert capsys.readouterr().out == 'make test: all green in 0 s\n'


def test_stamp_follows_the_inputs(dev, tmp_path: Path) -> None:
    steps = dev('steps')
    pins, stamp = tmp_path / 'pins.txt', tmp_path / 'stamps' / 'core'
    pins.write_text('a==1')
    steps.write_stamp(stamp, steps.fingerprint('3.11', pins))
    assert steps.is_stamped(stamp, steps.fingerprint('3.11', pins))
    pins.write_text('a==2')
    assert not steps.is_stamped(stamp, steps.fingerprint('3.11', pins))


def test_cached_wheel_that_does_not_run_is_deleted_and_rebuilt(dev, tmp_path, monkeypatch) -> None:
    mm_stack = dev('mm_stack')
    bad, good = tmp_path / 'onedl_mmcv-0-bad.whl', tmp_path / 'onedl_mmcv-0-good.whl'
    bad.touch()
    installed = []
    monkeypatch.setattr(mm_stack, 'wheel_folder', lambda: tmp_path)
    monkeypatch.setattr(mm_stack, 'build_wheel', lambda folder: good)
    monkeypatch.setattr(mm_stack, 'replace_mmcv', installed.append)
    monkeypatch.setattr(mm_stack, 'works', lambda code, **_: installed[-1:] == [good])
    assert mm_stack.install_mmcv('compiled') == 'compiled'
    assert installed == [bad, good]
    assert not bad.exists()


def test_operators_that_run_are_left_alone(dev, monkeypatch) -> None:
    mm_stack = dev('mm_stack')
    monkeypatch.setattr(mm_stack, 'works', lambda code, **_: True)
    monkeypatch.setattr(mm_stack, 'replace_mmcv', lambda what: pytest.fail('installed again'))
    assert mm_stack.install_mmcv() == 'compiled'


@pytest.mark.parametrize('ops', ['auto', 'torchvision'])
def test_nothing_is_compiled_unless_asked(dev, tmp_path, monkeypatch, ops: str) -> None:
    mm_stack = dev('mm_stack')
    installed = []
    monkeypatch.setattr(mm_stack, 'wheel_folder', lambda: tmp_path)
    monkeypatch.setattr(mm_stack, 'build_wheel', lambda folder: pytest.fail('compiled'))
    monkeypatch.setattr(mm_stack, 'replace_mmcv', installed.append)
    monkeypatch.setattr(
        mm_stack, 'works', lambda code, **_: code is mm_stack.TRY_STAND_IN and bool(installed)
    )
    assert mm_stack.install_mmcv(ops) == 'torchvision'
    assert installed == ['onedl-mmcv']


def test_cached_wheel_is_used_without_being_asked_for(dev, tmp_path, monkeypatch) -> None:
    mm_stack = dev('mm_stack')
    wheel = tmp_path / 'onedl_mmcv-0-good.whl'
    (tmp_path / 'mmcv-0-other-family.whl').touch()
    wheel.touch()
    installed = []
    monkeypatch.setattr(mm_stack, 'wheel_folder', lambda: tmp_path)
    monkeypatch.setattr(mm_stack, 'replace_mmcv', installed.append)
    monkeypatch.setattr(mm_stack, 'works', lambda code, **_: bool(installed))
    assert mm_stack.install_mmcv() == 'compiled'
    assert installed == [wheel]


def test_unknown_ops_and_families_are_named(dev, monkeypatch) -> None:
    mm_stack, family = dev('mm_stack'), dev('family')
    with pytest.raises(mm_stack.StepError, match="one of auto, compiled, torchvision, got 'cuda'"):
        mm_stack.install_mmcv('cuda')
    monkeypatch.setenv('FAMILY', 'mmlab')
    with pytest.raises(family.StepError, match="one of onedl, openmmlab, got 'mmlab'"):
        family.chosen()


def test_a_build_shows_its_count_and_a_failed_one_its_end(dev, capsys) -> None:
    steps, mm_stack = dev('steps'), dev('mm_stack')
    code = r"print('  [3/148] c++ -c a.cpp\nerror: b.cpp'); raise SystemExit(2)"
    with pytest.raises(steps.StepError, match='exit status 2'):
        steps.run([sys.executable, '-c', code], show=mm_stack.objects_done)
    shown = capsys.readouterr().out.splitlines()
    assert shown == ['   3 of 148 objects compiled', '  [3/148] c++ -c a.cpp', 'error: b.cpp']


def make_wheel(folder: Path, names: list[str], record: str) -> Path:
    path = folder / 'refineclip_mm-0-py3-none-any.whl'
    with zipfile.ZipFile(path, 'w') as archive:
        for name in names:
            archive.writestr(name, '')
        archive.writestr('refineclip_mm-0.dist-info/RECORD', record)
        archive.writestr('refineclip_mm-0.dist-info/top_level.txt', 'refineclip\n')
    return path


@pytest.mark.parametrize(
    ('drop', 'add', 'record', 'message'),
    [
        ('refineclip/.mim/tools/train.py', None, 'refineclip/__init__.py,,', 'lacks 1 files'),
        ('refineclip/__init__.py', None, 'refineclip/__init__.py,,', 'lacks 1 files'),
        (None, 'refineclip/.mim/tools/dev/x.py', 'refineclip/__init__.py,,', 'must not get'),
        (None, None, '../../../bin/refineclip,,', 'mim would not find'),
        (None, 'refineclip_mm-0.dist-info/entry_points.txt', 'refineclip/a,,', 'console scripts'),
    ],
)
def test_bad_wheels_are_refused(
    dev, tmp_path, monkeypatch, repo_root, drop, add, record, message
) -> None:
    distributions = dev('distributions')
    sources = [
        path.relative_to(repo_root).as_posix() for path in repo_root.glob('refineclip/**/*.py')
    ]
    names = [*sources, 'refineclip/py.typed']
    names += [f'refineclip/.mim/{name}' for name in distributions.expected_mim_files()]
    monkeypatch.setattr(distributions, 'DIST', tmp_path)
    make_wheel(tmp_path, names, 'refineclip/__init__.py,,')
    distributions.open_wheel()
    changed = [name for name in names if name != drop] + ([add] if add else [])
    make_wheel(tmp_path, changed, record)
    with pytest.raises(distributions.StepError, match=message):
        distributions.open_wheel()


def test_python_without_venv_names_the_package(dev, tmp_path, monkeypatch) -> None:
    environment = dev('environment')
    monkeypatch.setattr(environment.importlib.util, 'find_spec', lambda name: None)
    with pytest.raises(environment.StepError, match='apt-get install -y python3-venv'):
        environment.create_venv(tmp_path / 'venv')


def test_upstream_packages_are_not_overwritten(dev, monkeypatch) -> None:
    environment = dev('environment')
    answer = environment.subprocess.CompletedProcess([], 0, stdout='mmcv mmengine\n')
    monkeypatch.setattr(environment.subprocess, 'run', lambda *args, **kwargs: answer)
    with pytest.raises(environment.StepError, match=r'the other OpenMMLab family \(mmcv mmengine'):
        environment.refuse_other_family()


@pytest.mark.parametrize(
    ('gpu', 'forced', 'device'),
    [(False, '0', 'cpu'), (True, '0', 'cu12.8'), (False, '1', 'cu12.8')],
)
def test_wheels_for_cpu_and_gpu_have_caches_of_their_own(
    dev, monkeypatch, capsys, gpu: bool, forced: str, device: str
) -> None:
    monkeypatch.setattr(torch.version, 'cuda', '12.8')
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: gpu)
    monkeypatch.setenv('FORCE_CUDA', forced)
    exec(dev('mm_stack').CACHE_KEY, {})  # as the environment's interpreter does
    assert capsys.readouterr().out.split('-')[1] == device


def test_gpu_build_without_compiler_stops_at_once(dev, tmp_path, monkeypatch) -> None:
    mm_stack = dev('mm_stack')
    monkeypatch.setattr(mm_stack, 'need_compiler', lambda: None)
    monkeypatch.setattr(mm_stack, 'run', lambda *_, **__: pytest.fail('the build was started'))
    monkeypatch.setattr('shutil.which', lambda name, path=None: None)
    with pytest.raises(Exception, match='nvcc missing'):
        mm_stack.build_wheel(tmp_path / 'torch2.11.0-cu12.8-cp311-linux')


def test_the_suite_sees_no_gpu() -> None:
    assert os.environ['CUDA_VISIBLE_DEVICES'] == ''
