"""Every command's help ends with an example; what the drawn world is enough for is run."""

from __future__ import annotations

import contextlib
import io
import shlex
from pathlib import Path

import pytest
import torch

from refineclip.__main__ import COMMANDS, TASKS, main
from refineclip.commands import microworld
from refineclip.commands.evaluate.command import KINDS
from tests.command_lines import parse

PROGRAM = 'python -m refineclip '
HELPS = [*([name] for name in COMMANDS), *(['evaluate', kind] for kind in KINDS)]
# Run by tests of their own, drawn by the fixture, or in need of real data or of training.
NOT_RUN = (
    *(
        'doctor',
        'demo',
        'compare --suite',
        'microworld',
        'evaluate segmentation',
        'evaluate synonyms',
    ),
    *('app', 'export onnx'),
)


def help_of(words: list[str]) -> str:
    text = io.StringIO()
    with contextlib.redirect_stdout(text), pytest.raises(SystemExit) as stop:
        main([*words, '--help'])
    assert stop.value.code == 0
    return text.getvalue()


def examples(words: list[str]) -> list[str]:
    """Arguments of the examples at the end of a help text."""
    lines = help_of(words).rstrip().splitlines()
    title = max(i for i, line in enumerate(lines) if line in ('example:', 'examples:'))
    shown = lines[title + 1 :]
    start = f'  $ {PROGRAM}{" ".join(words)}'
    assert shown
    assert all(line.startswith(start) for line in shown), shown
    return [line.removeprefix(f'  $ {PROGRAM}') for line in shown]


def short(line: str) -> str:
    return ' '.join(line.split()[:2])


ALL = list(dict.fromkeys(line for words in HELPS for line in examples(words)))


def test_overview_shows_examples_of_the_helps() -> None:
    for commands in TASKS.values():
        for name, (_, example) in commands.items():
            assert f'{name} {example}'.strip() in ALL, name


@pytest.mark.parametrize('line', ALL, ids=short)
def test_examples_are_parsed(line: str, repo_root: Path) -> None:
    words = shlex.split(line)
    parse(['python', '-m', 'refineclip', *words])
    for word in words:
        if word.startswith('configs/'):
            assert (repo_root / word).is_file(), word


@pytest.fixture(scope='module')
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as a checkout after the examples before: configs, drawn images, a detector."""
    folder = tmp_path_factory.mktemp('world')
    (folder / 'configs').symlink_to(Path(__file__).resolve().parents[2] / 'configs')
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setattr(microworld, 'SPLITS', {'train': 4, 'val': 8})
        assert main(['microworld', 'data/microworld']) == 0
    return folder


def save_untrained_detector(folder: Path) -> None:
    from mmengine.config import Config
    from mmengine.registry import MODELS, init_default_scope

    config = Config.fromfile('configs/microworld/fvit_microworld.py')
    init_default_scope('mmdet')
    folder.mkdir(parents=True)
    state = MODELS.build(config.model).state_dict()
    torch.save({'state_dict': state, 'meta': {}}, folder / 'iter_500.pth')


@pytest.mark.slow
@pytest.mark.mm
@pytest.mark.parametrize('line', [one for one in ALL if not one.startswith(NOT_RUN)], ids=short)
def test_examples_run(
    line: str, world: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(world)
    if line.startswith('detect '):
        save_untrained_detector(world / 'work_dirs' / 'fvit_microworld')
    assert main(shlex.split(line)) == 0, capsys.readouterr().err
