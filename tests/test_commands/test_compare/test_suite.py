"""Suites and entries as data: what is read, and what is refused in a sentence."""

from __future__ import annotations

from pathlib import Path

import pytest
from mmengine.config import Config

from refineclip.commands.compare.recipes import put_files, read_recipe
from refineclip.commands.compare.suite import KINDS, find_file, read_methods, read_suite

ROW = dict(text='a row', source='-')
SUITES = ('microworld', 'photos', 'coco')


@pytest.mark.parametrize('name', SUITES)
def test_every_entry_of_a_shipped_suite_is_there(name):
    suite = read_suite(name)
    assert suite['kind'] == name
    assert suite['baseline'] in suite.methods
    for method in suite.methods.values():
        assert method.text
        if method.trains:
            cfg = Config.fromfile(find_file(method.config), import_custom_modules=False)
            assert method.part in cfg.model
    if name != 'coco':
        assert set(suite['axes']) <= set(suite['columns'])


def test_projects_are_found_from_the_config_alone(tmp_path: Path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    entry = read_suite('microworld').methods['DeCLIP']
    assert read_recipe(entry.config).model.type == 'DeCLIP'


def test_methods_are_chosen_with_their_baseline_in_the_order_of_the_suite():
    suite = read_suite('microworld')
    assert [one.name for one in suite.choose(['SC-RLA', 'frozen'])] == ['frozen', 'RLA', 'SC-RLA']
    assert [one.name for one in suite.choose([])] == list(suite.methods)
    with pytest.raises(ValueError, match=r"--methods: expected some of .*'RLA'.*got \['RLB'\]"):
        suite.choose(['RLA', 'RLB'])


@pytest.mark.parametrize(
    ('entries', 'message'),
    [
        ([dict(ROW, name='A b'), dict(ROW, name='a-B')], "different names, got 'A b' and 'a-B'"),
        ([dict(ROW, name='A'), dict(ROW, name='A')], "different names, got 'A' and 'A'"),
        ([dict(ROW, name='A', confg='x')], r"in the method 'A', got \['confg'\]"),
        ([dict(name='A')], r"expected \['source', 'text'\] in the method"),
        ([dict(ROW, name='A', blend=dict(of='B', alpha=0.5))], 'blend=dict.of=a trained method'),
    ],
)
def test_entries_that_are_refused(entries, message):
    with pytest.raises(ValueError, match=message):
        read_methods(entries, Path('suite.py'))


def test_suites_that_are_refused(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match=r'in a checkout or'):
        read_suite('nothing')
    with pytest.raises(FileNotFoundError, match='expected a name or a config file'):
        read_suite(str(tmp_path / 'nothing.py'))
    file = tmp_path / 'suite.py'
    for text, message in (
        ("kind = 'moon'", f'{KINDS[0]}.*got .moon.'),
        ("kind = 'photos'", 'expected the keys .*got none of'),
        ("kind = 'coco'; title = 't'; methods = []; baseline = 'RLA'", 'baseline: expected one of'),
    ):
        file.write_text(text.replace('; ', '\n'))
        with pytest.raises(ValueError, match=message):
            read_suite(str(file))


def test_placeholders_are_whole_strings_anywhere():
    tree = dict(a=['data/x', 'data/x/y'], b=dict(c='data/x', d=3), e=('data/x',))
    assert put_files(tree, {'data/x': '/z'}) == dict(
        a=['/z', 'data/x/y'], b=dict(c='/z', d=3), e=('/z',)
    )
