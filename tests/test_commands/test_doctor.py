"""The doctor must be right exactly when something is broken, so most cases here fake a defect."""

from __future__ import annotations

import re
import subprocess
import sys
import threading

import pytest

from refineclip.__main__ import main as dispatch
from refineclip.commands import doctor
from refineclip.mmcv_ops import has_compiled_ops

ALL_WELL = dict.fromkeys((*doctor.CORE, *doctor.OPTIONAL), (doctor.OK, '1.0', ''))
ONEDL = {'onedl': ['onedl-mmengine', 'onedl-mmcv'], 'openmmlab': []}
UPSTREAM = {'onedl': [], 'openmmlab': ['mmengine', 'mmcv']}


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch):
    """Let the doctor see made-up answers instead of this machine."""

    def install(families: dict[str, list[str]], **answers: tuple[str, str, str]) -> None:
        monkeypatch.setattr(doctor, 'probe', lambda module: {**ALL_WELL, **answers}[module])
        monkeypatch.setattr(doctor, 'find_families', lambda: families)
        monkeypatch.setattr(doctor, 'installed_version', lambda name: '1.0')

    return install


def test_all_well_exits_zero(fake, capsys: pytest.CaptureFixture[str]) -> None:
    fake(ONEDL)
    assert doctor.main([]) == 0
    text = capsys.readouterr().out
    assert text.strip().endswith('doctor: everything runs')
    assert 'To mend it' not in text


def test_missing_torch_exits_one_and_names_one_command(fake, capsys) -> None:
    no_torch = "ModuleNotFoundError: No module named 'torch'"
    fake(
        ONEDL,
        torch=(doctor.MISSING, '-', 'not installed'),
        torchvision=(doctor.BROKEN, '?', no_torch),
        timm=(doctor.BROKEN, '?', no_torch),
    )
    assert doctor.main([]) == 1
    text = capsys.readouterr().out
    assert 'the core cannot run (torch, torchvision, timm)' in text
    # All three are mended by the same command, which is given once.
    assert text.count('pip install torch==') == 1
    assert '  torch, torchvision, timm:\n' in text


def test_missing_mm_stack_is_no_failure_of_the_core(fake, capsys) -> None:
    fake(ONEDL, mmcv=(doctor.MISSING, '-', 'not installed'))
    assert doctor.main([]) == 0
    text = capsys.readouterr().out
    assert 'detection and segmentation do not (mmcv)' in text
    assert 'pip install onedl-mmcv==2.3.6' in text


def test_mmcv_that_does_not_load_is_compiled_again(fake, capsys) -> None:
    fake(ONEDL, mmcv=(doctor.BROKEN, '?', 'ImportError: undefined symbol: _ZN2at4'))
    assert doctor.main([]) == 0
    text = capsys.readouterr().out
    assert 'MMCV_WITH_OPS=1' in text
    assert '--no-build-isolation' in text
    assert 'onedl-mmcv==2.3.6' in text


def test_stand_in_is_no_defect_and_its_way_out_is_named(fake, capsys) -> None:
    fake(UPSTREAM, mmcv=(doctor.OK, '2.1.0', f'{doctor.STAND_IN} run on cpu'))
    assert doctor.main([]) == 0
    text = capsys.readouterr().out
    assert 'To mend it' not in text
    assert re.search(r'To compile the operators of mmcv itself:\n .* mmcv==2\.1\.0\n', text)
    assert text.strip().endswith('doctor: everything runs')


def test_extras_and_the_command_that_brings_them(fake, capsys, monkeypatch) -> None:
    fake(ONEDL)
    there = {'gradio': '6.19.0', 'onnx': '1.20.0', 'transformers': '5.0.0'}
    monkeypatch.setattr(doctor, 'installed_version', there.get)
    assert doctor.main([]) == 0
    text = capsys.readouterr().out
    assert re.search(r'\[app\] +- +ok +gradio 6\.19\.0\n', text)
    assert 'python -m refineclip export lacks onnxruntime, onnxscript' in text
    command = r"To add \[export\]:\n .* -m pip install 'onnxruntime>=1\.20' 'onnxscript>=0\.5'\n"
    assert re.search(command, text)
    assert text.strip().endswith('doctor: everything runs')


@pytest.mark.parametrize('extra', doctor.EXTRAS)
def test_extras_are_those_of_the_requirements(repo_root, extra: str) -> None:
    lines = (repo_root / 'requirements' / f'{extra}.txt').read_text().splitlines()
    asked = {line for line in lines if line and not line.startswith(('#', 'matplotlib'))}
    assert set(doctor.EXTRAS[extra].values()) == asked


def test_fix_stays_in_the_family_that_is_installed(fake, capsys) -> None:
    fake(UPSTREAM, mmdet=(doctor.MISSING, '-', 'not installed'))
    assert doctor.main([]) == 0
    text = capsys.readouterr().out
    assert 'pip install mmdet==3.3.0' in text
    assert 'onedl-' not in text


def test_both_families_are_a_problem(fake, capsys) -> None:
    fake({'onedl': ['onedl-mmengine'], 'openmmlab': ['mmengine']})
    assert doctor.main([]) == 1
    assert 'pip uninstall -y onedl-mmengine mmengine && ' in capsys.readouterr().out


def test_no_family_and_no_mmengine(fake, capsys) -> None:
    fake({'onedl': [], 'openmmlab': []}, mmengine=(doctor.MISSING, '-', 'not installed'))
    assert doctor.main([]) == 1
    assert 'pip install onedl-mmengine==' in capsys.readouterr().out


@pytest.mark.parametrize(
    ('here', 'state', 'note'),
    [
        ({'nvcc', 'nvidia-smi'}, doctor.OK, 'nvcc'),
        ({'nvidia-smi'}, doctor.MISSING, 'set CUDA_HOME'),
        (set(), doctor.MISSING, 'not needed'),
    ],
)
def test_nvcc_is_asked_for_where_a_gpu_is(
    monkeypatch: pytest.MonkeyPatch, here: set[str], state: str, note: str
) -> None:
    monkeypatch.setattr(doctor.shutil, 'which', lambda name, path=None: name * (name in here))
    finding = doctor.examine_nvcc()
    assert finding.state == state
    assert note in finding.note


@pytest.mark.parametrize(('path', 'state'), [('/usr/bin/g++', doctor.OK), (None, doctor.MISSING)])
def test_a_missing_compiler_is_no_defect(monkeypatch, path: str | None, state: str) -> None:
    monkeypatch.setattr(doctor.shutil, 'which', lambda name: path)
    finding = doctor.examine_compiler()
    assert (finding.state, finding.fix) == (state, '')
    assert 'everything runs' in doctor.verdict([finding])


def test_probe_tells_missing_broken_and_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert doctor.probe('no_such_library')[0] == doctor.MISSING
    probes = {'a': 'raise RuntimeError("operator does not exist")', 'b': 'import os\nos.abort()'}
    monkeypatch.setattr(doctor, 'PROBES', probes)
    assert doctor.probe('a') == (doctor.BROKEN, '?', 'RuntimeError: operator does not exist')
    state, _, note = doctor.probe('b')
    assert state == doctor.BROKEN
    assert 'killed the process (signal 6)' in note


def test_a_slow_import_is_no_defect(monkeypatch: pytest.MonkeyPatch, capsys) -> None:
    monkeypatch.setattr(doctor, 'PROBES', {'a': 'import time\ntime.sleep(3600)'})
    monkeypatch.setattr(doctor, 'PROBE_TIMEOUT', 0.1)
    state, _, note = doctor.probe('a')
    assert state == doctor.SLOW
    assert note.startswith('not imported within 0.1 s')


def test_slow_imports_are_said_without_a_remedy(fake, capsys) -> None:
    fake(ONEDL, torch=(doctor.SLOW, '?', 'busy'), mmcv=(doctor.SLOW, '?', 'busy'))
    assert doctor.main([]) == 0
    text = capsys.readouterr().out
    assert 'everything runs, as far as was seen (slow: torch, mmcv)' in text
    assert 'To mend it' not in text
    assert doctor.BROKEN not in text


def test_four_are_imported_at_a_time(fake, monkeypatch: pytest.MonkeyPatch) -> None:
    fake(ONEDL)
    meeting = threading.Barrier(doctor.PARALLEL)  # opens when four wait for it

    def probe(module: str) -> tuple[str, str, str]:
        meeting.wait()
        return ALL_WELL[module]

    monkeypatch.setattr(doctor, 'probe', probe)
    assert len(ALL_WELL) % doctor.PARALLEL == 0
    assert all(item.state == doctor.OK for item in doctor.examine())


def test_a_long_name_keeps_its_column() -> None:
    text = doctor.report(
        [doctor.Finding('a-library-of-long-name', doctor.OK, '1.0+cu128.git9f', 'n')]
    )
    assert 'a-library-of-long-name  1.0+cu128.git9f  ok     n' in text


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for as long as a busy machine takes."""
    monkeypatch.setattr(doctor, 'PROBE_TIMEOUT', None)


@pytest.mark.usefixtures('patient')
def test_probe_runs_the_real_operators() -> None:
    state, version, note = doctor.probe('torchvision')
    assert state == doctor.OK
    assert version[0].isdigit()
    assert note.startswith('ops run on')


@pytest.mark.mm
@pytest.mark.usefixtures('patient')
def test_probe_runs_the_real_mmcv_operators() -> None:
    state, _, note = doctor.probe('mmcv')
    ops = 'compiled ops' if has_compiled_ops() else doctor.STAND_IN
    assert (state, note) == (doctor.OK, f'{ops} run on cpu')


def test_doctor_imports_nothing_heavy() -> None:
    code = (
        'import sys, refineclip.commands.doctor;'
        'assert not {"torch", "mmengine", "numpy"} & set(sys.modules)'
    )
    subprocess.run([sys.executable, '-c', code], check=True)


def test_dispatcher_runs_commands_and_refuses_others(fake, capsys) -> None:
    fake(ONEDL)
    assert dispatch(['doctor']) == 0
    with pytest.raises(SystemExit) as caught:
        dispatch(['no-such-command'])
    assert caught.value.code == 2
    assert "invalid choice: 'no-such-command'" in capsys.readouterr().err
