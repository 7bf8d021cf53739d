"""Every command of every page is taken by the parser of its program, and its config is there."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from mmengine.config import Config
from torch.distributed.run import get_args_parser

from tests.command_lines import parse
from tests.test_docs.pages import CONFIGS, PAGES, ROOT, commands, holds, name_of
from tests.test_docs.test_python import check_imports

ROOMS = ('configs', 'tools', 'tests', 'benchmarks', 'projects', 'refineclip', 'docs')
NAMED = re.compile(rf'(?<![\w./-])((?:{"|".join(ROOMS)})/[\w./+-]*\w)')
NEW_KEYS = ('model.backbone.init_cfg', 'model.encoder.init_cfg')  # of whoever loads a file there


def check_config(name: str | Path, options: Sequence[str]) -> None:
    """A config that is named is there, with the keys that a command changes."""
    name = str(name)
    if name == 'CONFIG' or '...' in name:
        return
    path = CONFIGS[name] if '/' not in name else ROOT / name
    config = Config.fromfile(path, import_custom_modules=False)
    for key in (option.split('=')[0] for option in options):
        assert holds(config, key) or key.startswith(NEW_KEYS), f'{name} has no {key}'


def check_python(command: Sequence[str]) -> None:
    if command[1] == '-':
        tree = ast.parse(command[2])
        check_imports(tree)
        return
    if command[1:3] == ['-m', 'pytest']:  # parses by parts, and would start
        assert all((ROOT / word).exists() for word in command[3:] if not word.startswith('-'))
        return
    args = parse(command)
    if Path(getattr(args, 'config', None) or '').suffix == '.py':
        check_config(args.config, getattr(args, 'cfg_options', ()))


def check_mim(command: Sequence[str]) -> None:
    """By mim's own parser, and the rest by that of the script that it starts."""
    cli = importlib.import_module(f'mim.commands.{command[1]}').cli
    found = cli.make_context(command[1], list(command[2:])).params
    assert found['package'] == 'refineclip-mm'
    script = [f'tools/{command[1]}.py', found['config']]
    if command[1] == 'test':
        script.append(str(found['checkpoint']))
    args = parse(['python', *script, *found['other_args']])
    check_config(found['config'], args.cfg_options)


def check_torchrun(command: Sequence[str]) -> None:
    found = get_args_parser().parse_args(list(command[1:]))
    check_python(['python', found.training_script, *found.training_script_args])


def check_srun(command: Sequence[str]) -> None:
    check_python(command[command.index('python') :])


def check_pip(command: Sequence[str]) -> None:
    assert command[1] == 'install'
    extras = set(re.findall(r"^\s+'(\w+)': ", (ROOT / 'setup.py').read_text(), re.MULTILINE))
    for word in command[2:]:
        for extra in re.findall(r'\.\[(.*)\]', word):
            assert set(extra.split(',')) <= extras, word
        if word.endswith('.txt'):
            assert (ROOT / word).is_file(), word


def check_make(command: Sequence[str]) -> None:
    targets = re.findall(r'^(\w[\w-]*):', (ROOT / 'Makefile').read_text(), re.MULTILINE)
    assert set(command[1:]) <= set(targets)


CHECKS = {
    'python': check_python,
    'mim': check_mim,
    'torchrun': check_torchrun,
    'srun': check_srun,
    'pip': check_pip,
    'make': check_make,
}


@pytest.mark.parametrize('page', PAGES, ids=name_of)
def test_commands(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    wrong = []
    for command in commands(page):
        try:
            if command[0] in CHECKS:
                CHECKS[command[0]](command)
        except Exception as error:
            wrong.append(f'{" ".join(command)}\n  {type(error).__name__}: {error}')
    assert not wrong, '\n'.join(wrong)


def test_a_command_that_is_wrong_is_found(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match='refused'):
        check_python(['python', '-m', 'refineclip', 'plan', 'CONFIG', '--gpu', 'tpu'])
    with pytest.raises(ValueError, match='refused'):
        check_python(['python', 'tools/train.py', 'CONFIG', '--no-such-option'])
    toy = 'refiner_vit-toy_1xb2-4i_photos.py'
    with pytest.raises(AssertionError, match='has no model'):
        check_mim(['mim', 'train', 'refineclip-mm', toy, '--cfg-options', 'model.metod=rla'])
    with pytest.raises(KeyError, match='nowhere'):
        check_mim(['mim', 'train', 'refineclip-mm', 'nowhere.py'])
    with pytest.raises(AssertionError):
        check_pip(['pip', 'install', '.[nothing]'])
    page = tmp_path / 'page.md'
    page.write_text('```bash\nX="a b"\npython $X \\\n  "c d"  # comment\n```\n')
    assert commands(page) == [['python', 'a', 'b', 'c d']]


@pytest.mark.parametrize('page', PAGES, ids=name_of)
def test_paths_and_configs_that_a_page_names(page: Path) -> None:
    text = page.read_text(encoding='utf-8')
    paths = {path for path in NAMED.findall(text) if '...' not in path}
    assert [path for path in sorted(paths) if not (ROOT / path).exists()] == []
    names = re.findall(r'`([\w-]+_[\w.-]+\.py)`', text)
    files = {path.name for room in ROOMS for path in (ROOT / room).rglob('*.py')}
    assert [name for name in names if name not in files] == []
