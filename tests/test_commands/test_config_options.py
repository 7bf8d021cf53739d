from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pytest
from mmengine.config import Config

from refineclip.commands.config_options import (
    add_config_options,
    override,
    parse_value,
    read_config_file,
)


@pytest.mark.parametrize(
    ('text', 'current', 'value'),
    [
        # The config holds a text: whatever was typed, as it was typed.
        ('My Photos', 'data', 'My Photos'),
        ('Photos, 2024', 'data', 'Photos, 2024'),
        ('a,b', 'data', 'a,b'),
        ('2024', 'data', '2024'),
        ('1e5', 'data', '1e5'),
        ('(2024)', 'data', 2024),
        (' a ', 'data', ' a '),
        ('', 'data', ''),
        ('a photo of a {}', 'prompt', 'a photo of a {}'),
        ('(a photo, of a {})', 'prompt', '(a photo, of a {})'),
        ('{}', 'prompt', '{}'),
        ('None', 'openai', None),
        ('[traffic light,tall grass]', 'names.txt', ['traffic light', 'tall grass']),
        ("['a b', 'c, d']", 'names.txt', ['a b', 'c, d']),
        # Quotes of its own make a text of anything.
        ("'My Photos'", None, 'My Photos'),
        ('"2024"', None, '2024'),
        ("'None'", None, 'None'),
        ("'[a]'", 'data', '[a]'),
        ("'C:\\new'", None, 'C:\\new'),
        ("'a' or 'b'", None, "'a' or 'b'"),
        # The config holds nothing, a number or a boolean: Python's literals, else a text.
        ('a, b', None, 'a, b'),
        ('a photo of a {}', None, 'a photo of a {}'),
        ('7', None, 7),
        ('-1', 0.1, -1),
        ('1e-4', 1, 1e-4),
        ('007', None, '007'),
        ('2024_11', None, '2024_11'),
        ('inf', 1.0, float('inf')),
        ('inf', None, 'inf'),
        ('true', None, True),
        ('False', True, False),
        ('(224, 336)', None, (224, 336)),
        ("{'type': 'SGD', 'lr': 0.1}", None, {'type': 'SGD', 'lr': 0.1}),
        ('{brace}', None, '{brace}'),
        ('http://host/a?b=c', None, 'http://host/a?b=c'),
        # Lists as mmengine spells them.
        ('[1,2]', None, [1, 2]),
        ('1,2', None, [1, 2]),
        ('bbox,segm', None, ['bbox', 'segm']),
        ('[(1,2),[a,b],c]', None, [(1, 2), ['a', 'b'], 'c']),
        ('(a,1)', None, ('a', 1)),
        ('[a,]', None, ['a']),
        ('[]', None, []),
        ("[bird's nest,cat]", None, ["bird's nest", 'cat']),
        ('["a, b",c d]', None, ['a, b', 'c d']),
        ('a, b', ['c'], ['a', 'b']),
        ('crops', ['trunk'], 'crops'),
    ],
)
def test_values(text: str, current: object, value: object) -> None:
    found = parse_value(text, current)
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize('text', ['[a,(b]', "['a,b]", 'f(a,b'])
def test_what_is_not_closed_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match='to close what is open'):
        parse_value(text)


def config() -> Config:
    return Config(
        dict(
            prompt='A photo of a {} in the scene',
            lr=0.1,
            names=None,
            init_cfg=None,
            steps=[dict(type='Resize', scale=(4, 4)), dict(type='Pack', keys='img')],
        )
    )


def test_the_config_decides_what_a_value_is() -> None:
    cfg = config()
    options = ['prompt=a photo of a {}', 'lr=2', 'names=[traffic light,tall grass]']
    override(cfg, [*options, 'steps.1.keys=3', 'new.key=a=b', 'lr=3'])
    assert cfg.prompt == 'a photo of a {}'
    assert cfg.lr == 3
    assert cfg.names == ['traffic light', 'tall grass']
    assert cfg.steps == [dict(type='Resize', scale=(4, 4)), dict(type='Pack', keys='3')]
    assert cfg.new.key == 'a=b'


@pytest.mark.parametrize(
    ('option', 'message'),
    [
        ('lr', "expected KEY=VALUE, got 'lr'"),
        ('=1', "expected KEY=VALUE, got '=1'"),
        ('lr =1', "expected KEY=VALUE, got 'lr =1'"),
        ('a..b=1', 'expected KEY=VALUE'),
        ('lr=[1,(2]', 'lr: expected .* to close'),
        ('steps.7.type=Pad', 'exceeds the length'),
        ("init_cfg={'type': 'Pretrained'}", '_delete_'),
    ],
)
def test_options_that_do_not_fit(option: str, message: str) -> None:
    with pytest.raises(ValueError, match=f'--cfg-options: .*{message}'):
        override(config(), [option])


def test_the_argument_adds_up_and_checks(capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    add_config_options(parser, 'lr=0.1')
    parse: Any = parser.parse_args
    assert parse([]).cfg_options == []
    line = ['--cfg-options', 'prompt=a b', 'lr=1', '--cfg-options', 'lr=2']
    assert parse(line).cfg_options == ['prompt=a b', 'lr=1', 'lr=2']
    with pytest.raises(SystemExit):
        parse(['--cfg-options', 'lr'])
    assert "--cfg-options: expected KEY=VALUE, got 'lr'" in capsys.readouterr().err


def test_no_command_takes_the_parser_of_mmengine(repo_root: Path) -> None:
    folders = ('refineclip', 'tools', 'projects', 'benchmarks')
    files = [file for folder in folders for file in (repo_root / folder).rglob('*.py')]
    assert len(files) > 100
    taken = [file for file in files if 'import DictAction' in file.read_text(encoding='utf-8')]
    assert taken == []


@pytest.mark.parametrize('word', ['no', 'off', 'FALSE', 'yes', ''])
def test_a_boolean_is_true_or_false(word: str) -> None:
    cfg = Config({'model': {'with_cp': True}})
    with pytest.raises(ValueError, match=f'model.with_cp: expected True or False, got {word!r}'):
        override(cfg, [f'model.with_cp={word}'])
    override(cfg, ['model.with_cp=false'])
    assert cfg.model.with_cp is False


def test_one_item_of_a_list_of_words() -> None:
    cfg = Config({'names': ['a', 'b'], 'pipeline': [{'type': 'Load'}, {'type': 'Resize'}]})
    with pytest.raises(ValueError, match=r"expected whole lists .* got \['names.0'\]"):
        override(cfg, ['names.0=c'])
    override(cfg, ['pipeline.1.scale=3', 'names=[c,b]'])
    assert (cfg.pipeline[1].scale, cfg.names) == (3, ['c', 'b'])


@pytest.mark.parametrize(
    ('text', 'message'),
    [
        ('a = (', 'SyntaxError while it was read'),
        ("_base_ = './none.py'", 'FileNotFoundError while it was read.*none.py'),
        ('1 / 0', 'ZeroDivisionError while'),
        ('a = 1', r"with model, got none of \['model'\], only \['a'\]"),
        ('model = None', 'got none of'),
    ],
)
def test_a_config_that_is_none_is_named(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / 'c.py').write_text(text)
    with pytest.raises(ValueError, match=rf'c\.py: expected a config.*{message}'):
        read_config_file(tmp_path / 'c.py')
    with pytest.raises(FileNotFoundError, match=r'expected a config file, got .*none\.py'):
        read_config_file(tmp_path / 'none.py')
