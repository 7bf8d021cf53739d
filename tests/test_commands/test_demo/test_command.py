"""The demo end to end at its smallest, and its parts."""

from __future__ import annotations

import json
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from rich.console import Console

from refineclip.__main__ import main as dispatch
from refineclip.commands.demo import command, downstream, measures, report, training
from refineclip.commands.steps import Step, run_steps
from refineclip.datasets.microworld.vocabulary import NOVEL_NAMES
from refineclip.encoders import build_clip
from refineclip.evaluation.bootstrap import ImageScores


@pytest.fixture(scope='module')
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """What one quick run printed and wrote."""
    out = tmp_path_factory.mktemp('demo') / 'out'
    with pytest.MonkeyPatch.context() as patch:
        text: list[str] = []
        patch.setattr('sys.stdout.write', text.append)
        assert dispatch(['demo', '--quick', '--jobs', '1', '--out', str(out)]) == 0
    return ''.join(text), out


def test_table_claims_and_report(finished):
    text, out = finished
    table = text[text.index('microworld  ') :]
    rows = ('mean colour', 'random weights', 'frozen CLIP, block 4 of 5', 'SC-RLA', 'R-SC-RLA')
    for row in (*rows, 'RLA, alpha 0.5'):
        assert f'\n{row}  ' in table
    for name in ('C1', 'C2', 'C3', 'C4', 'C5'):
        sentence = next(line for line in text.splitlines() if line.startswith(f'{name} '))
        assert sentence.split(':')[0].removeprefix(f'{name} ') in (
            'holds',
            'within noise',
            'does not hold',
        )
    assert 'says nothing about real images' in text
    assert 'none of these numbers means anything' in text
    assert text.strip().splitlines()[-2] == f'report: {out / "report.html"}'
    page = (out / 'report.html').read_text()
    assert page.count('<img src="data:image/png;base64,') == 9
    # The first screen: a picture, the claims and the front, before any table.
    first, rest = page.split('<nav', 1)
    assert first.count('<img') == 2
    assert all(f'<p>{name} ' in first for name in ('C1', 'C2', 'C3', 'C4', 'C5'))
    assert '<table' not in first
    assert rest.count('<details>') == 6
    assert 'they say nothing about real images' in page


def test_blend_of_nothing_is_the_frozen_clip(finished):
    _, out = finished
    setting = measures.Setting(out / 'data', num_starts=1)
    spec = str(next((out / 'runs' / 'rla_seed0').glob('refined_*.pth')))
    values = json.loads((out / 'results.json').read_text())['values']
    blended = measures.measure_row(setting, spec, 0.0)
    assert {key: one.value for key, one in blended.items()} == values['frozen CLIP'][0]
    assert values['RLA, alpha 0.5'] != values['RLA']


def test_json_holds_what_the_table_shows(finished):
    text, out = finished
    content = json.loads((out / 'results.json').read_text())
    line = next(line for line in text.splitlines() if line.startswith('SC-RLA '))
    shown = [float(value) for value in line.split()[1:]]
    values = content['values']['SC-RLA'][0]
    assert shown == [round(values[key], 3) for key in report.COLUMNS]
    assert set(content['claims']) == {'C1', 'C2', 'C3', 'C4', 'C5'}


def test_runs_start_from_the_shipped_weights_and_use_the_refiner_of_their_seed(finished):
    _, out = finished
    start = build_clip('microworld-clip', 'shipped').visual.state_dict()
    first = torch.load(out / 'runs/refiner_seed0/iter_2.pth', weights_only=False)['state_dict']
    second = torch.load(out / 'runs/r-sc-rla_seed0/iter_2.pth', weights_only=False)['state_dict']
    refiner = [name for name in first if '.refiner.' in name]
    assert refiner
    for name in refiner:
        assert torch.equal(first[name], second[name.replace('encoder.', 'teacher.', 1)])
    for name, value in start.items():
        torch.testing.assert_close(second[f'teacher.visual.{name}'], value)
    assert any(not torch.equal(second[f'student.visual.{n}'], v) for n, v in start.items())


def test_images_of_training_are_not_those_of_the_measures(finished):
    _, out = finished
    train, val = ({p.read_bytes() for p in (out / 'data' / s).iterdir()} for s in ('train', 'val'))
    assert len(train) == len(val) == 8
    assert not train & val


def test_another_run_begins_anew_but_never_in_a_foreign_folder(tmp_path, capsys):
    copy = tmp_path / 'mine'
    copy.mkdir()
    (copy / 'thesis.txt').write_text('precious')
    assert command.main(['--quick', '--out', str(copy)]) == 2
    assert 'holds something else' in capsys.readouterr().err
    assert (copy / 'thesis.txt').read_text() == 'precious'
    (tmp_path / 'old').mkdir()
    (tmp_path / 'old' / command.MARKER).touch()
    (tmp_path / 'old' / 'results.json').touch()
    command.clear(command.parse_args(['--out', str(tmp_path / 'old')]))
    assert [path.name for path in (tmp_path / 'old').iterdir()] == [command.MARKER]


def test_wrong_options_are_said_at_once(tmp_path, capsys):
    assert command.main(['--pretrained', 'nowhere.pth', '--out', str(tmp_path / 'out')]) == 2
    assert 'nowhere.pth' in capsys.readouterr().err
    for options in (['--seeds', '1', '1'], ['--jobs', '0']):
        with pytest.raises(SystemExit):
            command.main(options)
    with pytest.raises(FileNotFoundError, match='in a checkout or'):
        training.config_file('nothing')


def test_several_seeds_show_mean_and_spread():
    one, two = ({'gk': ImageScores.from_values([value, value])} for value in (0.2, 0.4))
    # The standard deviation of .2 and .4 is .1414.
    assert report.cell([one, two], 'gk') == '0.300 ± 0.141'
    assert report.cell([one], 'gk') == '0.200'
    assert report.cell([one], 'boxes_class_top1') == '-'


def test_long_form_measures_backbones_downstream(tmp_path, monkeypatch):
    args = command.parse_args(['--seeds', '0', '3', '--out', str(tmp_path)])
    monkeypatch.setattr(downstream, 'missing', list)
    steps = {step.name: step for step in command.plan(args)[0]}
    # F-ViT on three rows, CAT-Seg on four, both with two seeds; words alone need no seed once.
    recipes = [name for name in steps if name.startswith(('F-ViT', 'CAT-Seg', 'words alone'))]
    assert len(recipes) == 3 * 2 + 4 * 2 + 1 + 3 * 2
    step = steps['F-ViT on R-SC-RLA, seed 3']
    assert 'train R-SC-RLA, seed 3' in step.needs
    saved = steps['measure R-SC-RLA, seed 3'].arguments[1]
    assert step.arguments[1]['model.backbone.init_cfg']['checkpoint'] == saved
    # CAT-Seg is the same on every backbone but for its weights.
    frozen, refined = (
        steps[f'CAT-Seg on {row}, seed 3'].arguments[1] for row in ('frozen CLIP', 'RLA')
    )
    assert set(refined) - set(frozen) == {'model.backbone.init_cfg'}
    found = {
        name: {'mIoU': 50.0, 'mIoU_novel': 5.0, 'coco/novel_ap50': 0.1, 'coco/base_ap50': 0.2}
        for name in recipes
    }
    scores = downstream.downstream_scores(args, found)
    lines = report.downstream_table(scores).splitlines()
    assert [line.split('  ')[0] for line in lines[2:6]] == list(downstream.ROWS)
    assert '0.500 ± 0.000' in lines[2]
    assert ' - ' in lines[4]  # F-ViT has no row of SC-RLA
    section = report._downstream(scores)
    assert len(section.blocks[0].rows) == 4


@pytest.mark.parametrize('recipe', ['cat-seg', 'text-segmentor'])
def test_novel_kinds_are_those_of_the_world(recipe):
    evaluator = training.load_config(recipe, {}).test_evaluator
    assert set(evaluator.groups.novel) == set(NOVEL_NAMES)


def test_what_is_left_out_is_said(monkeypatch):
    assert 'in the long form only' in command.left_out(command.parse_args([]))
    monkeypatch.setattr(downstream, 'missing', lambda: ['mmdet'])
    assert 'mmdet not installed' in command.left_out(command.parse_args(['--seeds', '0', '1']))


def test_seeds_share_fixed_rows_and_wait_for_their_own_refiner(tmp_path):
    args = command.parse_args(['--seeds', '0', '3', '--quick', '--out', str(tmp_path)])
    steps, specs = command.plan(args)
    by_name = {step.name: step for step in steps}
    assert len(by_name) == len(steps)
    assert specs['frozen CLIP'] == ['']
    assert specs['R-SC-RLA'] == [', seed 0', ', seed 3']
    assert 'train Refiner, seed 3' in by_name['train R-SC-RLA, seed 3'].needs
    assert 'train Refiner, seed 3' not in by_name['train SC-RLA, seed 3'].needs
    options = by_name['train R-SC-RLA, seed 3'].arguments[1]
    assert options['randomness.seed'] == 3
    assert 'refiner_seed3' in options['model.refiner.checkpoint']


def test_tiles_are_encoded_alone():
    visual = build_clip('microworld-clip', 'shipped').visual.eval()
    images = torch.randn(1, 3, 128, 64, generator=torch.Generator().manual_seed(0))
    encoder = measures.TiledEncoder(visual, 'value')
    with torch.no_grad():
        whole = encoder.dense(images)
        torch.testing.assert_close(whole[:, :, 8:], visual.dense(images[:, :, 64:], 'value'))
    assert whole.shape == (1, 128, 16, 8)
    with pytest.raises(ValueError, match='whole tiles of 64 x 64'):
        encoder.dense(images[:, :, :96])


def note(name: str, folder: Path, pause: float) -> float:
    """A step: wait, leave a file, say when."""
    time.sleep(pause)
    (folder / name).touch()
    return time.monotonic()  # one clock for all processes


def fail(message: str) -> None:
    """A step that cannot be done."""
    raise ValueError(message)


@pytest.mark.slow  # two processes that import torch
def test_steps_wait_for_what_they_need(tmp_path):
    steps = [
        Step('slow', note, ('slow', tmp_path, 0.3)),
        Step('after', note, ('after', tmp_path, 0.0), ('slow',)),
        Step('free', note, ('free', tmp_path, 0.0)),
    ]
    results = run_steps(steps, 2, Console(quiet=True), tmp_path / 'steps')
    assert results['after'] >= results['slow']
    assert {path.name for path in tmp_path.iterdir()} == {'slow', 'after', 'free', 'steps'}


def test_a_step_that_fails_ends_the_chain(tmp_path):
    steps = [
        Step('bad', fail, ('no weights',)),
        Step('later', note, ('later', tmp_path, 0.0), ('bad',)),
    ]
    with pytest.raises(ValueError, match='no weights'):
        run_steps(steps, 1, Console(quiet=True), tmp_path / 'steps')
    assert [path.name for path in tmp_path.iterdir()] == ['steps']


def test_finished_steps_are_not_run_again(tmp_path):
    good, bad = Step('good', note, ('good', tmp_path, 0.0)), Step('bad', fail, ('no weights',))
    with pytest.raises(ValueError, match='no weights'):
        run_steps([good, bad], 1, Console(quiet=True), tmp_path / 'steps')
    (tmp_path / 'good').unlink()
    after = Step('after', note, ('after', tmp_path, 0.0), ('good',))
    results = run_steps([good, after], 1, Console(quiet=True), tmp_path / 'steps')
    assert results['after'] > results['good']
    assert not (tmp_path / 'good').exists()


def test_resume_wants_the_same_demo(tmp_path, capsys):
    out = ['--quick', '--out', str(tmp_path / 'out')]
    assert command.main([*out, '--resume']) == 2
    assert 'expected a stopped demo' in capsys.readouterr().err
    command.clear(command.parse_args(out))
    command.reopen(command.parse_args(out))
    assert command.main([*out, '--resume', '--seeds', '1']) == 2
    assert 'expected the options of the stopped demo' in capsys.readouterr().err


def test_vocabulary_is_that_of_the_captions(finished):
    _, out = finished
    setting = measures.Setting(out / 'data')
    text = measures.vocabulary(setting, ('meadow', 'fish'))
    clip = build_clip('microworld-clip', 'shipped')
    with torch.no_grad():
        said = clip.text(clip.tokenizer(['in a meadow', 'a fish']))
    torch.testing.assert_close(text, torch.nn.functional.normalize(said, dim=1))
    assert np.isfinite(text.numpy()).all()
