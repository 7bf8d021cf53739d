"""Weight files: what is read, what is refused, and with which words."""

from __future__ import annotations

import os
import pickle
import subprocess
import zipfile
from argparse import Namespace
from collections import defaultdict, deque
from datetime import date, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.logging import MessageHub
from safetensors.torch import save, save_file

from refineclip.encoders.weights.checkpoint_file import read_array, read_checkpoint, read_content

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
        (exec, ("import os; os.mkdir('made_by_pickle')",), 'exec'),
        (subprocess.Popen, (['mkdir', 'made_by_pickle'],), 'Popen'),
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


HARMLESS: dict[str, Any] = {
    'none': None,
    'numbers': [1, 2.5, True, 1j, 2**100, Decimal('0.1')],
    'texts': ['a', b'b', PurePosixPath('/runs/a')],
    'dates': [date(2026, 1, 2), datetime(2026, 1, 2, tzinfo=timezone.utc), timedelta(days=1)],
    'sets': [{1, 2}, frozenset([3]), range(4), slice(1, 2)],
    'torch': [torch.float16, torch.device('cpu'), torch.Size([1])],
    'empty_array': np.zeros((0, 3)),
    'records': np.zeros(2, dtype=[('name', 'U4'), ('score', 'f4')]),
    'record': np.zeros(2, dtype=[('name', 'U4'), ('score', 'f4')])[0],
    'bytes_of_numpy': np.void(b'abc'),
    'names': np.array(['cat', None], dtype=object),
    'random_state': np.random.RandomState(0).get_state(),
    **{f'array_{kind}': np.ones(2, dtype=kind) for kind in '?bBhHiIlLqQefdgFDG'},
    **{f'scalar_{kind}': np.dtype(kind).type(1) for kind in '?bBhHiIlLqQefdgFDG'},
    **{f'array_{kind}': np.zeros(2, dtype=kind) for kind in ('U4', 'S4', 'M8[D]', 'm8[s]', '>f4')},
}


@pytest.mark.parametrize('name', HARMLESS)
def test_plain_values_beside_tensors(name: str, tmp_path: Path) -> None:
    torch.save({'state_dict': WEIGHTS, 'x': HARMLESS[name]}, tmp_path / 'a.pt')
    assert_weights(read_checkpoint(tmp_path / 'a.pt'))
    assert str(read_content(tmp_path / 'a.pt')['x']) == str(HARMLESS[name])


@pytest.mark.parametrize('first', [None, list, dict, int, float, set, str])
def test_default_dicts_and_deques_become_plain(first: Any, tmp_path: Path) -> None:
    x = [defaultdict(first, a=1), deque([1, 2], maxlen=3)]
    torch.save({'state_dict': WEIGHTS, 'x': x}, tmp_path / 'a.pt')
    assert read_content(tmp_path / 'a.pt')['x'] == [{'a': 1}, [1, 2]]


def test_numbers_that_are_weights(tmp_path: Path) -> None:
    torch.save({**WEIGHTS, 'logit_scale': 4.5, 'vocab_size': np.int64(7)}, tmp_path / 'a.pt')
    state = read_checkpoint(tmp_path / 'a.pt')
    assert (float(state['logit_scale']), int(state['vocab_size'])) == (4.5, 7)


@pytest.mark.parametrize('name', ['a.npz', 'a.pth'])
def test_arrays_by_name(name: str, tmp_path: Path) -> None:
    arrays = {key: value.numpy() for key, value in WEIGHTS.items()}
    with (tmp_path / name).open('wb') as file:
        np.savez(file, **arrays)
    assert_weights(read_checkpoint(tmp_path / name))
    torch.save({'model': arrays}, tmp_path / 'b.pth')
    assert_weights(read_checkpoint(tmp_path / 'b.pth'))


def test_npz_of_objects_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / 'a.npz', x=np.array([RunsCode(os.mkdir, str(tmp_path / 'made'))]))
    with pytest.raises(ValueError, match=r'a\.npz.*pickled objects'):
        read_checkpoint(tmp_path / 'a.npz')
    assert not (tmp_path / 'made').exists()


def test_names_lie(tmp_path: Path) -> None:
    (tmp_path / 'a.pth').write_bytes(save(WEIGHTS))
    torch.save(WEIGHTS, tmp_path / 'b.safetensors')
    torch.save(WEIGHTS, tmp_path / 'c.bin', _use_new_zipfile_serialization=False)
    for name in ('a.pth', 'b.safetensors', 'c.bin'):
        assert_weights(read_checkpoint(tmp_path / name))


def test_a_whole_pickled_module(tmp_path: Path) -> None:
    torch.save(torch.nn.Linear(2, 2), tmp_path / 'a.pt')
    message = r'whole pickled object of torch\.nn\.modules\.linear\.Linear.*content\.state_dict\(\)'
    with pytest.raises(ValueError, match=message):
        read_checkpoint(tmp_path / 'a.pt')


class Scripted(torch.nn.Module):
    """Parameters of two types, a buffer, a number, a list, and a nest."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.randn(3))
        self.register_buffer('steps', torch.arange(3))
        self.vocab_size, self.sizes = 7, [1, 2]
        self.blocks = torch.nn.Sequential(torch.nn.Linear(2, 3).half(), torch.nn.LayerNorm(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x * self.scale + self.vocab_size + self.sizes[0]


def test_torchscript_archive(tmp_path: Path) -> None:
    module = Scripted()
    torch.jit.script(module).save(str(tmp_path / 'a.pt'))
    state = read_checkpoint(tmp_path / 'a.pt')
    assert int(state.pop('vocab_size')) == 7
    assert set(state) == set(module.state_dict())
    for key, value in module.state_dict().items():
        assert state[key].dtype == value.dtype
        assert torch.equal(state[key], value)


def test_torchscript_archive_with_foreign_code(tmp_path: Path) -> None:
    canary = RunsCode(os.mkdir, str(tmp_path / 'made'))
    with zipfile.ZipFile(tmp_path / 'a.pt', 'w') as archive:
        archive.writestr('a/data.pkl', pickle.dumps(canary, protocol=2))
        archive.writestr('a/constants.pkl', b'')
    with pytest.raises(ValueError, match=r'TorchScript archive.*torch\.jit\.load'):
        read_checkpoint(tmp_path / 'a.pt')
    assert not (tmp_path / 'made').exists()


@pytest.mark.parametrize(
    ('content', 'message'),
    [
        (b'', 'which is empty'),
        (b'version https://git-lfs.github.com/spec/v1\noid sha256:0\n', 'git lfs pull'),
        (b'\n<!DOCTYPE html><html></html>', 'a web page'),
        (b'<?xml version="1.0"?><Error/>', 'a web page'),
        (b'{"weight_map": {}}', 'a JSON file'),
        (b'\x1f\x8b\x08\x00', 'unpack it'),
        (b'garbage' * 9, 'cut off, broken or of another kind'),
        (pickle.dumps({'a': 1}), 'cut off, broken or of another kind'),
    ],
)
@pytest.mark.parametrize('name', ['a.pth', 'a.safetensors'])
def test_files_that_are_no_weights(content, message, name, tmp_path) -> None:
    (tmp_path / name).write_bytes(content)
    if name.endswith('safetensors') and message.startswith('cut off'):
        message = 'cut off'
    with pytest.raises(ValueError, match=message) as error:
        read_checkpoint(tmp_path / name)
    assert name in str(error.value)


def test_archive_of_something_else(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / 'a.pt', 'w') as archive:
        archive.writestr('README.md', 'x')
    with pytest.raises(ValueError, match=r'zip archive.*README\.md.*unpack'):
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


def test_a_flipped_bit_is_found(tmp_path: Path) -> None:
    """torch itself would load the other number."""
    torch.save({'a': torch.zeros(1000)}, tmp_path / 'a.pt')
    content = bytearray((tmp_path / 'a.pt').read_bytes())
    content[content.find(bytes(3000)) + 1500] ^= 64
    (tmp_path / 'a.pt').write_bytes(content)
    assert torch.load(tmp_path / 'a.pt', weights_only=True)['a'].abs().sum() > 0
    with pytest.raises(ValueError, match=r'a\.pt .*broken'):
        read_checkpoint(tmp_path / 'a.pt')


def test_broken_names_in_a_file_are_a_sentence(tmp_path: Path) -> None:
    """zipfile raises UnicodeDecodeError at a name that is no UTF-8."""
    torch.save({'a': torch.zeros(3)}, tmp_path / 'a.pt')
    content = (tmp_path / 'a.pt').read_bytes()
    entry = content.index(b'PK\x01\x02')
    spoilt = bytearray(content)
    spoilt[entry + 9] |= 0x08  # the name is UTF-8
    spoilt[entry + 46] = 0xE9
    (tmp_path / 'a.pt').write_bytes(spoilt)
    with pytest.raises(ValueError, match=r'a\.pt.*broken'):
        read_checkpoint(tmp_path / 'a.pt')


def test_a_file_without_checksums_is_read(tmp_path: Path) -> None:
    torch.serialization.set_crc32_options(False)
    try:
        torch.save(WEIGHTS, tmp_path / 'a.pt')
    finally:
        torch.serialization.set_crc32_options(True)
    assert_weights(read_checkpoint(tmp_path / 'a.pt'))


@pytest.mark.parametrize('content', [b'', b'\x93NUMPY', b'{}', pickle.dumps([1])])
def test_arrays_that_are_none(content: bytes, tmp_path: Path) -> None:
    (tmp_path / 'a.npy').write_bytes(content)
    with pytest.raises(ValueError, match=r'expected an array of numbers in .*a\.npy'):
        read_array(tmp_path / 'a.npy')
    np.save(tmp_path / 'b.npy', np.arange(3.0))
    assert read_array(tmp_path / 'b.npy').tolist() == [0, 1, 2]
