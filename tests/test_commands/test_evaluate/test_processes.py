"""Two processes give the numbers of one, and a call that was stopped goes on."""

from __future__ import annotations

import json
from argparse import Namespace
from pathlib import Path
from typing import Any

import pytest
import torch

from refineclip.commands import evaluate
from refineclip.commands.evaluate import processes
from refineclip.datasets.microworld import write_split
from tests.test_evaluation.toy_panoptic import write_coco

TWO = ['--processes', '2']
ROWS = ['--model', 'microworld-clip', '--models', 'a=shipped', 'b=random', '--compare', 'a']


def numbers(argv: list[str], file: Path) -> dict[str, Any]:
    """What a call that goes well writes."""
    assert evaluate.main([*argv, '--json', str(file)]) == 0
    content = json.loads(file.read_text())
    return {key: content[key] for key in ('scores', 'differences')}


def command(kind: str, root: Path) -> list[str]:
    """Arguments of a kind on five drawn images."""
    write_split(root, 'val', 5)
    if kind == 'image':
        captions = str(root / 'annotations' / 'captions_val.json')
        data = ['--captions', captions, '--image-root', str(root / 'val'), '--batch-size', '2']
        return ['image', *data, *ROWS]
    size = ['--image-size', '64', *(['--templates', 'photo'] if kind == 'regions' else [])]
    return [kind, '--data', str(root), '--split', 'val', *ROWS, *size]


@pytest.mark.slow
@pytest.mark.parametrize('kind', ['regions', 'spatial', 'image'])
def test_two_processes_give_the_numbers_of_one(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv('OMP_NUM_THREADS', '1')
    argv = command(kind, tmp_path / 'data')
    one = numbers(argv, tmp_path / 'one.json')
    alone = capfd.readouterr().out
    assert numbers([*argv, *TWO], tmp_path / 'two.json') == one
    assert capfd.readouterr().out == alone  # one table, not two


@pytest.mark.slow
def test_two_processes_leave_results_that_one_goes_on_from(tmp_path: Path) -> None:
    argv = [*command('image', tmp_path / 'data'), '--cache-dir', str(tmp_path / 'cache')]
    found = numbers([*argv, *TWO], tmp_path / 'two.json')
    files = sorted(tmp_path.glob('cache/*/*.pth'))
    assert len(files) == 3
    files[1].unlink()
    files[2].write_bytes(files[2].read_bytes()[:100])
    assert numbers(argv, tmp_path / 'one.json') == found


@pytest.mark.slow
def test_what_goes_wrong_in_one_process_is_one_sentence(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    root = write_coco(tmp_path / 'coco')
    (root / 'val2017/001.png').write_bytes(b'')  # of the second process
    argv = ['spatial', '--data', str(root), '--model', 'microworld-clip', '--models', 'a=random']
    assert evaluate.main([*argv, '--image-size', '64', *TWO]) == 2
    error = capfd.readouterr().err
    assert error.count('001.png: zero-byte file') == 1
    assert 'Traceback' not in error


def test_wrong_numbers_of_processes(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ['spatial', '--data', 'none', '--model', 'm', '--models', 'a=random', '--processes']
    assert evaluate.main([*argv, '0']) == 2
    assert '--processes: expected 1 or more, got 0' in capsys.readouterr().err
    monkeypatch.setenv('TORCHELASTIC_RUN_ID', 'none')
    monkeypatch.setenv('WORLD_SIZE', '4')
    assert evaluate.main([*argv, '2']) == 2
    assert 'expected none under torchrun, which started 4 already' in capsys.readouterr().err


def test_a_process_for_each_gpu_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'device_count', lambda: 2)
    with pytest.raises(ValueError, match='at most one per GPU, 2, got 3'):
        processes.run_in_processes('spatial', [], Namespace(processes=3, device='cuda'))
    assert not processes.uses_gpu(Namespace(device='cpu'))
