"""Which checkpoint a run goes on from, and from which it does not."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.runner import Runner

from refineclip.distill.hooks import ResumeCheckHook
from refineclip.distill.hooks.atomic_checkpoint_hook import find_resumable
from refineclip.distill.hooks.resume_check_hook import check_resumable, read_config

from .toy_runs import run_config, stage2_model, write_images

MODEL = dict(type='A', method='rla', loss=dict(weight=1.0), file='/old/w.pth', with_cp=False)


@pytest.fixture
def warnings() -> list[str]:
    messages: list[str] = []
    handler = logging.Handler(logging.WARNING)
    handler.emit = lambda record: messages.append(record.getMessage())  # type: ignore[method-assign]
    MMLogger.get_instance('test_resuming').addHandler(handler)
    return messages


def write(folder: Path, *names: str) -> None:
    """Files whose times run against their numbers, as a copy may leave them."""
    for index, name in enumerate(names):
        (folder / name).write_bytes(b'x')
        os.utime(folder / name, (100 - index, 100 - index))


def test_the_highest_number_wins(tmp_path: Path, warnings: list[str]) -> None:
    write(tmp_path, 'iter_2.pth', 'iter_10.pth', 'iter_4.pth', 'refined_iter_12.pth')
    assert find_resumable(tmp_path).name == 'iter_10.pth'
    (tmp_path / 'last_checkpoint').write_text('/gone/runs/iter_10.pth')
    assert find_resumable(tmp_path) == tmp_path / 'iter_10.pth'
    assert not warnings


def test_a_pointer_that_disagrees_is_named(tmp_path: Path, warnings: list[str]) -> None:
    write(tmp_path, 'epoch_1.pth', 'epoch_2.pth')
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'epoch_1.pth'))
    assert find_resumable(tmp_path).name == 'epoch_2.pth'
    [message] = warnings
    assert 'names epoch_1.pth' in message
    assert 'going on from epoch_2.pth' in message


@pytest.mark.parametrize('content', [b'\xff\xfe\0', b'x' * 5000, b'a\nb'])
def test_a_pointer_that_is_damaged_is_as_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / 'iter_2.pth').touch()
    (tmp_path / 'last_checkpoint').write_bytes(content)
    assert find_resumable(tmp_path) == tmp_path / 'iter_2.pth'


def test_a_pointer_alone(tmp_path: Path) -> None:
    write(tmp_path, 'mine.pth')
    assert find_resumable(tmp_path) is None
    (tmp_path / 'last_checkpoint').write_text(str(tmp_path / 'mine.pth'))
    assert find_resumable(tmp_path).name == 'mine.pth'


def test_epochs_and_iterations_do_not_compare(tmp_path: Path) -> None:
    write(tmp_path, 'epoch_1.pth', 'iter_200.pth')
    with pytest.raises(ValueError, match='got both'):
        find_resumable(tmp_path)
    (tmp_path / 'last_checkpoint').write_text('epoch_1.pth')
    assert find_resumable(tmp_path).name == 'epoch_1.pth'


def checkpoint(**model: Any) -> dict[str, Any]:
    optim = dict(optimizer=dict(type='AdamW', lr=1.0))
    cfg = Config(dict(model={**MODEL, **model}, optim_wrapper=optim, max_iters=3))
    return dict(meta=dict(cfg=cfg.pretty_text), state_dict={}, optimizer={})


def run(optimizer: str = 'AdamW', **model: Any) -> Config:
    optim = dict(optimizer=dict(type=optimizer, lr=2.0))
    return Config(dict(model={**MODEL, **model}, optim_wrapper=optim, max_iters=9))


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (dict(method='sc-rla'), r"model\.method: 'rla' there, 'sc-rla' here"),
        (dict(loss=dict(weight=2.0)), r'model\.loss\.weight: 1\.0 there, 2\.0 here'),
        (dict(type='B', x=1), r"another \(model\.type: 'A' there, 'B' here\)"),
        (dict(extra=1), r'model\.extra: None there, 1 here'),
        (dict(file='/new/other.pth'), r"model\.file: '/old/w\.pth' there"),
        (dict(optimizer='SGD'), r"optim_wrapper\.optimizer\.type: 'AdamW' there, 'SGD' here"),
    ],
)
def test_another_config_is_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message + r'.*load_from'):
        check_resumable(checkpoint(), run(**changes))


@pytest.mark.parametrize(
    'changes', [{}, dict(with_cp=True), dict(file='/new/w.pth'), dict(pretrained='x')]
)
def test_what_may_change(changes: dict[str, Any]) -> None:
    check_resumable(checkpoint(), run(**changes))


def test_weights_alone_are_refused() -> None:
    with pytest.raises(ValueError, match=r"without \['meta', 'optimizer'\].*load_from"):
        check_resumable(dict(state_dict={}), run())


def test_a_stored_config_is_read_and_not_run(tmp_path: Path) -> None:
    made = tmp_path / 'made'
    text = f"a = dict(b=(1, -2), c=[dict(d=None)])\nx = __import__('os').mkdir({str(made)!r})\n"
    found = read_config(text)
    assert found['a'] == dict(b=[1, -2], c=[dict(d=None)])
    assert not made.exists()
    assert read_config('a = (') == {}
    check_resumable(dict(meta=dict(cfg=text), state_dict={}, optimizer={}), run())


def resume(cfg: Config, path: Path) -> Runner:
    cfg.resume, cfg.load_from = True, str(path)
    runner = Runner.from_cfg(cfg)
    runner.register_hook(ResumeCheckHook())
    runner.train()
    return runner


def test_runs(tmp_path: Path) -> None:
    """The same config goes on; another method, and the backbone alone, are refused."""
    images = write_images(tmp_path / 'images', 4)
    Runner.from_cfg(run_config(images, tmp_path / 'a', iters=1)).train()
    saved = tmp_path / 'a' / 'iter_1.pth'
    assert resume(run_config(images, tmp_path / 'b', iters=2), saved).iter == 2
    other = stage2_model('rla')
    with pytest.raises(ValueError, match=r"model\.method: 'sc-rla' there, 'rla' here"):
        resume(run_config(images, tmp_path / 'c', other, iters=2), saved)
    student = torch.load(saved, weights_only=False)['state_dict']
    torch.save(dict(meta={}, state_dict=student), tmp_path / 'weights.pth')
    with pytest.raises(ValueError, match=r"without \['optimizer'\]"):
        resume(run_config(images, tmp_path / 'd', iters=2), tmp_path / 'weights.pth')
