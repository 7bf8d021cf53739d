from __future__ import annotations

import importlib

import pytest

from refineclip.__main__ import COMMANDS, TASKS, main, overview
from refineclip.commands import draw
from refineclip.commands.columns import align
from refineclip.commands.evaluate.command import main as evaluate


def test_columns_are_as_wide_as_what_they_hold() -> None:
    rows = [('a', '1', 'one'), ('microworld-of-words', '22', 'two'), ('b', '', '')]
    assert align(rows, indent=' ').splitlines() == [
        ' a                    1   one',
        ' microworld-of-words  22  two',
        ' b',
    ]


def test_alone_it_lists_the_commands_by_task(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    text = capsys.readouterr().err
    assert overview() in text
    for task, commands in TASKS.items():
        assert f'{task}:' in text
        for name, (what, example) in commands.items():
            assert f'  {name.ljust(12)}{what}\n' in text
            assert f'$ python -m refineclip {name} {example}'.rstrip() in text


def test_every_command_has_a_module() -> None:
    assert len(set(COMMANDS)) == len(COMMANDS)
    for name in COMMANDS:
        assert callable(importlib.import_module(f'refineclip.commands.{name}').main)


@pytest.mark.parametrize('command', [draw.main, evaluate])
def test_kinds_stand_apart_from_what_they_do(command, capsys) -> None:
    with pytest.raises(SystemExit) as caught:
        command(['--help'])
    assert caught.value.code == 0
    assert '  segmentation  ' in capsys.readouterr().out


def test_an_empty_argument_is_not_the_current_folder(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match='2'):
        main(['segment', 'a.jpg', '--out', ''])
    assert "no empty argument, got one near '--out'" in capsys.readouterr().err
    with pytest.raises(SystemExit, match='2'):
        main(['segment', '', '--out', 'out'])
    assert "near 'segment'" in capsys.readouterr().err
