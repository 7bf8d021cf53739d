"""Exit statuses are those of the table in docs/how_to.md: 2 for the command line, 1 for data."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from refineclip.__main__ import COMMANDS, main
from refineclip.commands import doctor, microworld

ROWS = '--model microworld-clip --models frozen=shipped'
# What each command refuses in a sentence, beyond options that it does not know.
REFUSED = {
    'demo': ['--jobs 0', '--seeds 1 1', '--out .'],
    'microworld': ['out --train -1'],
    'plan': ['nowhere.py', 'configs/microworld/rla_microworld.py --mfu 2'],
    'shard': ['nowhere --out o', 'configs --out o --images-per-shard 0', '. --out .'],
    'evaluate': [
        'nothing',
        f'spatial {ROWS} --data nowhere',
        f'regions {ROWS} --data nowhere',
        f'image {ROWS}',
        'synonyms nowhere.py nothing.pth',
        'segmentation nowhere.py --benchmarks voc20 --limit 0',
    ],
    'app': ['--models frozen=openai', '--num-images -1', '--port 70000'],
    'compare': [
        '--suite nothing',
        '--suite microworld --methods RLB',
        '--suite microworld --seeds 1 1',
        '--suite microworld --data nowhere',
        '--suite photos',
    ],
    'export': ['onnx random --out o', 'timm random --model timm/no_such_tower --out o'],
    'draw': [f'pca {ROWS} --out a.png', f'pca {ROWS} --images nowhere --out a.png', 'circles'],
    'detect': ['nowhere.py nothing.pth nowhere --out found', 'a b c --out o --score-thr 2'],
    'segment': ['nowhere --texts "a . b" --out o', f'. --texts "a . . b" --out o {ROWS[:24]}'],
}


def status(words: list[str]) -> int:
    try:
        return main(words)
    except SystemExit as stop:
        return int(stop.code or 0)


@pytest.mark.parametrize('command', COMMANDS)
def test_options_that_no_command_has(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert status([command, '--no-such-option']) == 2
    assert f'python -m refineclip {command}' in capsys.readouterr().err


@pytest.mark.parametrize('line', [f'{name} {one}' for name, own in REFUSED.items() for one in own])
def test_what_is_refused(
    line: str,
    tmp_path: Path,
    repo_root: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / 'configs').symlink_to(repo_root / 'configs')
    monkeypatch.chdir(tmp_path)
    assert status(shlex.split(line)) == 2
    error = capsys.readouterr().err
    assert 'expected' in error or 'invalid choice' in error
    assert 'Traceback' not in error


def test_every_command_is_tried() -> None:
    # Of doctor the command line is empty.
    assert {*REFUSED, 'doctor'} == set(COMMANDS)


def test_an_image_that_cannot_be_read_is_1(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(microworld, 'SPLITS', {'train': 0, 'val': 1})
    assert main(['microworld', 'data']) == 0
    argv = shlex.split(f'draw pca {ROWS} --images data/val --out a.png')
    assert main(argv) == 0
    (tmp_path / 'data' / 'val' / '0.png').write_bytes(b'no image')
    assert main(argv) == 1
    assert 'skipped' in capsys.readouterr().err


def test_a_core_that_cannot_run_is_1(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = doctor.Finding('torch', doctor.MISSING, core=True)
    monkeypatch.setattr(doctor, 'examine', lambda: [torch])
    assert main(['doctor']) == 1
    torch.state = doctor.OK
    assert main(['doctor']) == 0


@pytest.mark.mm
def test_a_benchmark_without_data_is_1(
    tmp_path: Path,
    repo_root: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    config = repo_root / 'configs' / 'microworld' / 'text-segmentor_microworld.py'
    assert main(['evaluate', 'segmentation', str(config), '--benchmarks', 'voc20']) == 1
    assert 'left out voc20' in capsys.readouterr().out
