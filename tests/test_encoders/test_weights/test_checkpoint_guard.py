"""A checkpoint fills the model or is refused, whoever loads it; none runs code."""

from __future__ import annotations

import copy
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.logging import MessageHub
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from mmengine.runner import load_checkpoint
from mmengine.runner.checkpoint import CheckpointLoader, _load_checkpoint_with_prefix
from safetensors.torch import save_file
from torch import Tensor, nn

import refineclip.distill  # noqa: F401  (registers the stages)
from tests.test_distill.toys import PREPROCESSOR, STUDENT

from .test_checkpoint_file import RunsCode

State = dict[str, Tensor]


def stage1() -> nn.Module:
    encoder = dict(STUDENT, refiner=dict(num_blocks=2))
    loss = dict(type='RefineLoss', roi_size=2)
    return MODELS.build(
        dict(type='RefinerTraining', encoder=encoder, loss=loss, data_preprocessor=PREPROCESSOR)
    )


def stage2(method: str = 'sc-rla') -> nn.Module:
    return MODELS.build(
        dict(
            type='RegionAlignment',
            student=STUDENT,
            method=method,
            rla=dict(type='CLIPSelfLoss'),
            scd=dict(type='SCDLoss', roi_size=2),
            refiner=dict(num_blocks=2),
            data_preprocessor=PREPROCESSOR,
        )
    )


class Host(BaseModel):
    """Someone else's model around our backbone."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = MODELS.build(STUDENT)
        self.head = nn.Linear(2, 2)

    def forward(self, inputs: Any, mode: str = 'tensor') -> None:
        return None


def save(state: State, folder: Path) -> str:
    torch.save(dict(meta={}, state_dict=state), folder / 'a.pth')
    return str(folder / 'a.pth')


def refined(model: nn.Module) -> State:
    return model.student.state_dict()


def library(model: nn.Module) -> State:
    return {
        f'visual.{key}': value for key, value in model.student.visual.model.state_dict().items()
    }


@pytest.mark.parametrize(
    ('model', 'file', 'message'),
    [
        (stage2, lambda: stage1().state_dict(), r'stage 1 .*into model\.refiner\.checkpoint'),
        (stage2, lambda: refined(stage2()), r'a backbone alone.*model\.student\.init_cfg\.checkp'),
        (stage2, lambda: library(stage2()), r'weights of a CLIP library.*model\.student\.pretr'),
        (stage2, lambda: stage2('r-sc-rla').state_dict(), r'unexpected \(first: teacher\.refiner'),
        (
            stage2,
            lambda: {'conv.weight': torch.ones(1)},
            r'one of another model with \d+ of \d+ te',
        ),
        (stage1, lambda: stage2().state_dict(), r'stage 2 .*refined_\*\.pth beside it'),
        (stage1, lambda: refined(stage2()), r'alone.*model\.encoder\.init_cfg\.checkpoint'),
        (
            Host,
            lambda: refined(stage2()),
            r'RefinerCLIP \(backbone\.\*\).*without backbone\.\*.*model\.backbone\.init_c',
        ),
        (Host, lambda: {'backbone.conv1.weight': torch.ones(1)}, r'1 unexpected \(first: backbone'),
    ],
)
def test_other_files_are_refused(model: Any, file: Any, message: str, tmp_path: Path) -> None:
    """By mmengine's loader, which is not strict, and by torch's."""
    target, state = model(), file()
    before = copy.deepcopy(target.state_dict())
    with pytest.raises(ValueError, match=message):
        load_checkpoint(target, save(state, tmp_path))
    with pytest.raises(ValueError, match=message):
        target.load_state_dict(state, strict=False)
    assert all(
        torch.equal(value, before[key])
        for key, value in target.state_dict().items()
        if not value.isnan().any()
    )


@pytest.mark.parametrize('model', [stage1, stage2, Host])
def test_its_own_file_is_loaded(model: Any, tmp_path: Path) -> None:
    source, target = model(), copy.deepcopy(model())
    for parameter in source.parameters():
        parameter.data += 1
    state = {f'module.{key}': value for key, value in source.state_dict().items()}  # as DDP saves
    load_checkpoint(target, save(state, tmp_path), revise_keys=[(r'^module\.', '')])
    loaded = target.state_dict()
    for key, value in source.state_dict().items():
        assert torch.equal(loaded[key], value) or value.isnan().all(), key


def test_other_shapes_are_named(tmp_path: Path) -> None:
    state = stage2().state_dict()
    state['student.visual.model.proj'] = torch.ones(16, 3)
    message = (
        r'1 of other shapes \(first: student\.visual\.model\.proj \(16, 3\) in place of \(16, 12'
    )
    with pytest.raises(ValueError, match=message):
        load_checkpoint(stage2(), save(state, tmp_path))


def test_computed_buffers_come_and_go() -> None:
    model = stage2()
    state = dict(model.state_dict(), **{'student.visual.model.rope.freqs_cos': torch.ones(2)})
    model.load_state_dict(state, strict=False)


def test_init_cfg_of_a_whole_model(tmp_path: Path) -> None:
    model = stage2()
    path = save(stage1().state_dict(), tmp_path)
    model.init_cfg = dict(type='Pretrained', checkpoint=path)
    with pytest.raises(ValueError, match='expected a checkpoint that fills this RegionAlignment'):
        model.init_weights()


def test_a_part_is_loaded_through_the_part(tmp_path: Path) -> None:
    source, host = stage2(), Host()
    for parameter in source.student.parameters():
        parameter.data += 1
    state = _load_checkpoint_with_prefix('student.', save(source.state_dict(), tmp_path))
    host.backbone.load_state_dict(state)
    for key, value in source.student.state_dict().items():
        assert torch.equal(host.backbone.state_dict()[key], value)


def test_mmengine_reads_through_us(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It would unpickle what torch refuses; and it cannot read safetensors."""
    monkeypatch.chdir(tmp_path)
    torch.save({'state_dict': {}, 'x': RunsCode(os.mkdir, 'made_by_pickle')}, 'a.pth')
    with pytest.raises(ValueError, match='could run code'):
        load_checkpoint(stage2(), 'a.pth')
    assert not Path('made_by_pickle').exists()
    save_file({'a': torch.ones(1)}, 'a.safetensors')
    assert CheckpointLoader.load_checkpoint('a.safetensors')['a'] == 1


def test_records_of_a_run_load_where_torch_refuses_them(tmp_path: Path) -> None:
    """mmengine 0.10.7 calls ``torch.load`` with its default, and could not resume."""
    hub = MessageHub.get_instance('checkpoint_guard')
    for value in (1.0, 3.0):
        hub.update_scalar('train/loss', value)
    path = tmp_path / 'iter_2.pth'
    torch.save(dict(meta=dict(iter=2), message_hub=hub.state_dict(), state_dict={}), path)
    with pytest.raises(Exception, match='HistoryBuffer'):
        torch.load(path, weights_only=True)
    content = CheckpointLoader.load_checkpoint(str(path), map_location='cpu')
    resumed = MessageHub.get_instance('checkpoint_guard_resumed')
    resumed.load_state_dict(content['message_hub'])
    assert resumed.get_scalar('train/loss').mean() == 2
    assert resumed.get_scalar('train/loss').current() == 3


def test_a_config_in_a_checkpoint_is_not_run(tmp_path: Path) -> None:
    """``Runner.resume`` runs ``meta['config']``, of old versions, as Python."""
    path = tmp_path / 'iter_1.pth'
    torch.save(dict(meta=dict(config="import os; os.mkdir('made')", iter=1)), path)
    assert CheckpointLoader.load_checkpoint(str(path))['meta'] == dict(iter=1)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda value: (100 * value).to(torch.int8), 'torch.int8'),
        (lambda value: value * 1j, 'torch.complex64'),
        (lambda value: value.to_sparse(), 'sparse'),
        (lambda value: value.to('meta'), 'meta'),
    ],
)
def test_other_kinds_of_numbers_are_refused(change: Any, message: str) -> None:
    """Copied as they are, they would lose their scale or their imaginary part."""
    model = stage2()
    state = model.state_dict()
    key = next(key for key in state if key.endswith('proj'))
    with pytest.raises(ValueError, match=f'1 of other kinds .*{key}: .*{message}'):
        model.load_state_dict({**state, key: change(state[key])})


def test_arrays_and_numbers_fill_a_model(tmp_path: Path) -> None:
    source, target = stage1(), stage1()
    state = {key: value.numpy() for key, value in source.state_dict().items()}
    state['initial_cosine'] = float(source.state_dict()['initial_cosine'])
    torch.save({'state_dict': state}, tmp_path / 'a.pth')
    load_checkpoint(target, str(tmp_path / 'a.pth'))
    for key, value in source.state_dict().items():
        torch.testing.assert_close(target.state_dict()[key], value, equal_nan=True)


def test_what_is_no_tensor_is_named(tmp_path: Path) -> None:
    model = stage1()
    key = next(iter(model.state_dict()))
    with pytest.raises(ValueError, match=f'expected tensors in a checkpoint, got a str as {key}'):
        model.load_state_dict({**model.state_dict(), key: 'text'})
    for content in ([1, 2], None, torch.zeros(3), {'state_dict': 'text'}):
        torch.save(content, tmp_path / 'a.pth')
        with pytest.raises(ValueError, match=r'tensors by name in .*a\.pth, got a '):
            load_checkpoint(model, str(tmp_path / 'a.pth'))
