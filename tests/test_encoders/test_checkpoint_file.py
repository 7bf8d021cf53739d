"""Weight files: what is read, what is refused, and with which words."""

from __future__ import annotations

import os
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.logging import MessageHub
from safetensors.torch import save_file

from refineclip.encoders.checkpoint_file import read_checkpoint

WEIGHTS = {'a.weight': torch.arange(3.0), 'b': torch.ones(2)}


def assert_weights(state: dict[str, torch.Tensor]) -> None:
    assert set(state) == set(WEIGHTS)
    for key, value in WEIGHTS.items():
        assert torch.equal(state[key], value)


def prefixed(prefix: str) -> dict[str, torch.Tensor]:
    return {prefix + key: value for key, value in WEIGHTS.items()}


@pytest.mark.parametrize(
    'content',
    [
        WEIGHTS,
        {'state_dict': WEIGHTS},
        {'epoch': 3, 'name': 'x', 'optimizer': {'lr': 1.0}, 'state_dict': prefixed('module.')},
        {'model': prefixed('module._orig_mod.'), 'args': Namespace(lr=1.0)},
        {'module': {'state_dict': WEIGHTS}},
        {**WEIGHTS, 'epoch': 3},
    ],
)
def test_nested_and_wrapped_files(content: dict[str, Any], tmp_path: Path) -> None:
    torch.save(content, tmp_path / 'a.pt')
    assert_weights(read_checkpoint(tmp_path / 'a.pt'))


def test_safetensors(tmp_path: Path) -> None:
    save_file(prefixed('module.'), tmp_path / 'a.safetensors')
    assert_weights(read_checkpoint(str(tmp_path / 'a.safetensors')))


def test_mmengine_checkpoint(tmp_path: Path) -> None:
    hub = MessageHub.get_instance('checkpoint_file')
    hub.update_scalar('train/loss', 1.0)
    hub.update_scalar('train/loss', np.float32(2.0))
    hub.update_scalar('train/lr', np.float64(2.0))
    content = dict(
        meta=dict(seed=0, cfg='x', iter=np.int64(3)),
        message_hub=hub.state_dict(),
        state_dict=WEIGHTS,
    )
    torch.save(content, tmp_path / 'a.pth')
    assert_weights(read_checkpoint(tmp_path / 'a.pth'))


def test_openai_scalars_are_kept(tmp_path: Path) -> None:
    torch.save({**WEIGHTS, 'input_resolution': 224}, tmp_path / 'a.pt')
    assert read_checkpoint(tmp_path / 'a.pt')['input_resolution'] == 224


class RunsCode:
    def __init__(self, function: Any, *args: Any) -> None:
        self.call = (function, args)

    def __reduce__(self) -> Any:
        return self.call


@pytest.mark.parametrize(
    ('function', 'args', 'message'),
    [
        (os.mkdir, ('made_by_pickle',), 'posix.mkdir'),
        (getattr, (torch.Tensor, 'numpy'), 'getattr'),
    ],
)
def test_pickled_code_is_refused(
    function: Any,
    args: tuple[Any, ...],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({'state_dict': WEIGHTS, 'x': RunsCode(function, *args)}, 'a.pt')
    with pytest.raises(ValueError, match=f'{message}.*convert it once'):
        read_checkpoint('a.pt')
    assert [file.name for file in tmp_path.iterdir()] == ['a.pt']


def test_torchscript_archive(tmp_path: Path) -> None:
    torch.jit.script(torch.nn.Linear(2, 2)).save(str(tmp_path / 'a.pt'))
    with pytest.raises(ValueError, match=r'TorchScript archive.*torch\.jit\.load'):
        read_checkpoint(tmp_path / 'a.pt')


def test_missing_and_broken_files(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match='nowhere'):
        read_checkpoint(tmp_path / 'nowhere.pt')
    torch.save(WEIGHTS, tmp_path / 'whole.pt')
    content = (tmp_path / 'whole.pt').read_bytes()
    for name, part in (('a.pt', content[:200]), ('b.pt', b''), ('c.safetensors', b'12345678{')):
        (tmp_path / name).write_bytes(part)
        with pytest.raises(ValueError, match=name):
            read_checkpoint(tmp_path / name)


def test_files_without_tensors(tmp_path: Path) -> None:
    torch.save({'epoch': 3, 'lr': 0.1}, tmp_path / 'a.pt')
    with pytest.raises(ValueError, match=r"got the entries \['epoch', 'lr'\]"):
        read_checkpoint(tmp_path / 'a.pt')
    torch.save(torch.ones(3), tmp_path / 'b.pt')
    with pytest.raises(ValueError, match='got Tensor'):
        read_checkpoint(tmp_path / 'b.pt')
