"""The command end to end at toy size: results, going on, and what it refuses before long work."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.registry import MODELS

from refineclip.__main__ import main
from refineclip.commands.compare import planning
from refineclip.commands.compare.job import Job
from refineclip.commands.compare.measuring import row_encoder
from refineclip.commands.compare.recipes import plain_data, recipe
from refineclip.commands.running import place
from refineclip.evaluation.streams.result_store import digest
from tests.test_docs.pages import ROOT, blocks

WORLD = ['compare', '--suite', 'microworld', '--quick', '--jobs', '1', '--seeds', '0']
ROWS = ['frozen', 'SC-RLA', 'RLA, alpha .5']


@pytest.fixture(scope='module')
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp('compare') / 'out'
    assert main([*WORLD, '--methods', *ROWS, '--out', str(out)]) == 0
    return out


def content(out: Path) -> dict[str, Any]:
    return json.loads((out / 'compare.json').read_text())


def test_json_has_every_number_and_every_setting(finished: Path):
    found = content(finished)
    assert list(found['values']) == ['frozen', 'RLA', 'RLA, alpha .5', 'SC-RLA']
    assert set(found['values']['RLA'][0]) == set(found['suite']['columns'])
    assert set(found['differences']) == {'frozen', 'RLA, alpha .5', 'SC-RLA'}
    assert set(found['runs']) == {'train rla, seed 0', 'train sc-rla, seed 0'}
    run = found['runs']['train sc-rla, seed 0']
    assert run['config']['model']['method'] == 'sc-rla'
    assert (run['steps'], run['passes']) == (2, 16)
    assert {'train rla, seed 0', 'measure rla, seed 0', 'measure frozen'} <= set(found['seconds'])
    assert found['missing'] == []
    assert torch.__version__.startswith(found['environment']['versions']['torch'])
    assert str(finished) not in json.dumps(found)  # it can be shown to anyone


def test_page_has_table_rule_and_rows(finished: Path):
    page = (finished / 'compare.md').read_text()
    assert 'none of these numbers means anything' in page
    assert '\n| SC-RLA' in page
    assert 'passes of the student' in page
    assert '- **SC-RLA**: and SCD against the frozen CLIP (arXiv 2504.02328)' in page
    assert (finished / 'front.png').stat().st_size > 1000
    # Of a run its encoder stays, and no checkpoint beside it.
    assert [one.name for one in (finished / 'runs/rla_seed0').glob('*.pth')] == ['encoder.pth']


def test_rows_are_the_encoders_that_they_say(finished: Path):
    job = Job('microworld', None, finished, quick=True)
    images = torch.rand(1, 3, 128, 128)
    encoders = {
        name: row_encoder(job, job.suite.methods[name], 0)
        for name in ('frozen', 'RLA', 'RLA, alpha .5', 'ClearCLIP', 'frozen, block before')
    }
    maps = {name: one.dense(images) for name, one in encoders.items()}
    weights = {name: one.visual.state_dict() for name, one in encoders.items()}
    assert encoders['ClearCLIP'].dense_mode == 'query-query-only'
    assert encoders['frozen, block before'].block == encoders['frozen'].visual.num_blocks - 2
    assert not torch.allclose(maps['frozen'], maps['RLA'])
    for name, half in weights['RLA, alpha .5'].items():
        both = (weights['RLA'][name] + weights['frozen'][name]) / 2
        torch.testing.assert_close(half, both, atol=1e-6, rtol=1e-5)


def test_going_on_trains_and_measures_only_what_is_new(finished: Path, tmp_path, monkeypatch):
    out = shutil.copytree(finished, tmp_path / 'moved')
    measured: list[str] = []
    real = planning.measure

    def measure(job, name, seed):
        measured.append(name)
        return real(job, name, seed)

    monkeypatch.setattr(planning, 'measure', measure)
    monkeypatch.setattr(planning, 'train', lambda *_: pytest.fail('trained again'))
    call = [*WORLD, '--methods', *ROWS, 'frozen, plain', '--resume', '--out', str(out)]
    assert main(call) == 0
    assert measured == ['frozen, plain']
    assert 'frozen, plain' in content(out)['values']


def test_a_stopped_run_leaves_what_it_measured_and_goes_on(tmp_path, monkeypatch, capsys):
    out = tmp_path / 'out'

    def stop(job, name, seed):
        if name == 'RLA':
            raise KeyboardInterrupt
        return no_scores()

    call = [*WORLD, '--methods', 'frozen', '--out', str(out)]
    with monkeypatch.context() as patch:
        patch.setattr(planning, 'measure', stop)
        assert main(call) == 130
    assert '--resume goes on' in capsys.readouterr().err
    found = content(out)
    assert list(found['values']) == ['frozen']
    assert found['missing'] == ['measure rla, seed 0']
    assert 'Not finished: measure rla, seed 0.' in (out / 'compare.md').read_text()
    monkeypatch.setattr(planning, 'train', lambda *_: pytest.fail('trained again'))
    monkeypatch.setattr(planning, 'measure', no_scores)
    assert main(call) == 2
    assert 'holds a comparison; --resume goes on' in capsys.readouterr().err
    assert main([*call, '--resume']) == 0
    assert content(out)['missing'] == []


def test_photos_at_toy_size(toy_photos, tmp_path):
    data, suite = toy_photos
    call = ['compare', '--suite', str(suite), '--data', str(data), '--quick', '--jobs', '1']
    assert main([*call, '--seeds', '0', '--out', str(tmp_path / 'out')]) == 0
    found = content(tmp_path / 'out')
    assert list(found['values']) == ['frozen', 'RLA', 'SC-RLA']
    assert set(found['values']['SC-RLA'][0]) == set(found['suite']['columns'])
    assert (tmp_path / 'out/images.txt').read_text().count('train2017/') == 16
    assert (tmp_path / 'out/text_head.safetensors').is_file()


def no_scores(*_: Any) -> dict[str, Any]:
    """What measuring returns, without the time that it takes."""
    return dict(scores={}, seconds=0.0)


def refused(call: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The sentence of a call that is refused before anything is written."""
    assert main(['compare', *call]) == 2
    error = capsys.readouterr().err
    assert error.startswith('compare: ')
    assert 'expected' in error
    return error


def test_wrong_calls(tmp_path, capsys, finished):
    out = ['--out', str(tmp_path / 'out')]
    assert "got ['RLB']" in refused(['--suite', 'microworld', '--methods', 'RLB', *out], capsys)
    assert 'no suite' not in refused(['--suite', 'nothing', *out], capsys)
    assert 'draw it: python -m refineclip microworld' in refused(
        ['--suite', 'microworld', '--data', str(tmp_path), *out], capsys
    )
    assert 'needs no data' in refused(['--suite', 'photos', *out], capsys)
    (tmp_path / 'thesis.txt').touch()
    assert 'something else' in refused(['--suite', 'microworld', '--out', str(tmp_path)], capsys)
    assert 'got none; begin without --resume' in refused(
        ['--suite', 'microworld', '--resume', *out], capsys
    )
    assert 'the options of the comparison' in refused(
        ['--suite', 'microworld', '--resume', '--out', str(finished)], capsys
    )
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize(
    ('lost', 'message'),
    [
        ('coco/train2017/000.png', '16 photos in'),
        ('weights/toy.safetensors', r'one file'),
        ('words.npy', 'words.npy'),
        ('coco/annotations/panoptic_val2017.json', 'panoptic_val2017.json'),
    ],
)
def test_photos_that_lack_something(own_photos, tmp_path, capsys, lost, message):
    data, suite = own_photos
    (data / lost).unlink()
    call = ['--suite', str(suite), '--data', str(data), '--out', str(tmp_path / 'out')]
    assert message in refused(call, capsys)
    assert not (tmp_path / 'out').exists()


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        ('model.data_preprocessor.image_size = 30', 'multiples of the patch size 8'),
        ('train_dataloader.batch_size = 4', 'batches of 8 images'),
        ("model.rla = dict(type='NoSuchLoss')", 'NoSuchLoss'),
    ],
)
def test_a_method_that_does_not_fit(own_photos, tmp_path, capsys, change, message):
    data, suite = own_photos
    lines = suite.read_text().splitlines()
    key, value = change.split(' = ')
    *path, last = key.split('.')
    nested = f'{last}={value}'
    for part in reversed(path[1:]):
        nested = f'{part}=dict({nested})'
    config = tmp_path / 'misfit.py'
    base = next(line for line in lines if line.startswith('frozen')).split(' = ')[1]
    config.write_text(f'_base_ = [{base}]\n{path[0]} = dict({nested})\n')
    entry = dict(name='Misfit', text='-', source='-', config=str(config))
    suite.write_text('\n'.join([*lines, f'methods.append({entry!r})']))
    call = ['--suite', str(suite), '--data', str(data), '--out', str(tmp_path / 'out')]
    error = refused([*call, '--methods', 'Misfit'], capsys)
    assert 'Misfit: expected' in error
    assert message in error
    assert not (tmp_path / 'out').exists()


def test_a_changed_config_is_not_taken_for_the_old_one(own_photos, tmp_path, capsys, monkeypatch):
    data, suite = own_photos

    def train(job, name, seed):
        method = job.suite.methods[name]
        cfg = place(recipe(job, method, seed), job.run_folder(method, seed))
        return dict(digest=digest(plain_data(job, cfg)), seconds=0.0)

    monkeypatch.setattr(planning, 'train', train)
    monkeypatch.setattr(planning, 'measure', no_scores)
    call = ['--suite', str(suite), '--data', str(data), '--out', str(tmp_path / 'out'), '--quick']
    call += ['--jobs', '1', '--seeds', '0', '--methods', 'RLA']
    assert main(['compare', *call]) == 0
    other = tmp_path / 'other.py'
    base = next(x for x in suite.read_text().splitlines() if x.startswith('frozen'))
    other.write_text(
        f'_base_ = [{base.split(" = ")[1]}]\nmodel = dict(rla=dict(loss_weight=2.0))\n'
    )
    text = suite.read_text().replace(base.split(' = ')[1].strip("'"), str(other))
    suite.write_text(text)
    from refineclip.commands.compare.job import _suite

    _suite.cache_clear()
    assert 'the config that RLA, seed 0 was trained with' in refused([*call, '--resume'], capsys)


def test_recipes_that_are_planned(tmp_path, repo_root, capsys):
    suite = tmp_path / 'suite.py'
    toys = 'configs/distill/toy/'
    entries = [
        dict(name='RLA', text='-', source='-', config=toys + 'rla_vit-toy_1xb2-4i_photos.py'),
        dict(
            name='DeCLIP',
            text='-',
            source='-',
            config='projects/declip/configs/declip_microworld.py',
        ),
    ]
    suite.write_text(
        "kind = 'coco'\ntitle = 'toys'\nbaseline = 'RLA'\nimages = 100\ngpu = 'a100'\nmfu = 0.2\n"
        f'methods = {entries!r}\n'
    )
    assert main(['compare', '--suite', str(suite), '--out', str(tmp_path / 'out')]) == 0
    assert 'nothing was trained' in capsys.readouterr().out
    plans = json.loads((tmp_path / 'out/plan.json').read_text())['plans']
    assert plans['RLA']['gpu_hours'] > 0
    assert plans['DeCLIP']['flops_per_image']['SCD'] > 0
    assert '| RLA |' in (tmp_path / 'out/plan.md').read_text()


def test_worked_example_of_the_page(tmp_path, monkeypatch):
    module, config, suite = blocks(ROOT / 'docs' / 'compare.md', 'py')
    assert sum(len(one.splitlines()) for one in (module, config, suite)) < 60
    project = tmp_path / 'projects' / 'anchored'
    (project / 'anchored').mkdir(parents=True)
    (project / 'configs').mkdir()
    (project / 'anchored' / '__init__.py').write_text(module)
    (project / 'configs' / 'anchored_microworld.py').write_text(config)
    (tmp_path / 'mine.py').write_text(suite)
    (tmp_path / 'configs').symlink_to(ROOT / 'configs')
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    call = ['compare', '--suite', 'mine.py', '--methods', 'Anchored', '--quick', '--jobs', '1']
    try:
        assert main([*call, '--seeds', '0', '--out', 'out']) == 0
    finally:
        MODELS.module_dict.pop('Anchored', None)
    found = content(tmp_path / 'out')
    assert list(found['values']) == ['RLA', 'Anchored']
    assert 'loss_anchor' in (tmp_path / 'out/runs/anchored_seed0/train.log').read_text()
