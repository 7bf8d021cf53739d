"""The campaign in its short form; docs/reliability.md has the long one."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.chaos import command, kills
from benchmarks.chaos.canaries import READERS, run_canaries
from benchmarks.chaos.inputs import KINDS, run_inputs
from benchmarks.chaos.kills import differences, run_kills
from benchmarks.chaos.truncations import run_full_disk, run_truncations
from benchmarks.chaos.verdicts import Case, Outcome, Verdict, judge
from refineclip.datasets.image_io import read_image

NEED_MM = ('instances', 'lvis')


def refuse() -> None:
    raise ValueError('of the test, so none of ours')


@pytest.mark.parametrize(
    ('read', 'wrong', 'verdict'),
    [
        (lambda: 1, '', Verdict.LOADED),
        (lambda: 1, 'half of it', Verdict.WRONG),
        (lambda: read_image('/no/such.png'), '', Verdict.REFUSED),
        (refuse, '', Verdict.CRASHED),
        (lambda: {}['key'], '', Verdict.CRASHED),
    ],
)
def test_verdicts(read, wrong: str, verdict: Verdict) -> None:
    assert judge('kind', Case('case', read, lambda _: wrong)).verdict is verdict


def assert_good(outcomes: list[Outcome]) -> None:
    assert outcomes
    assert command.faults(outcomes) == ''


def test_hostile_inputs(tmp_path: Path) -> None:
    kinds = [kind for kind in KINDS if kind not in NEED_MM]
    outcomes = list(run_inputs(tmp_path, 180, 1, kinds))
    assert_good(outcomes)
    assert len(outcomes) == 180
    # Neither reads all, nor refuses all.
    for kind in ('images', 'panoptic', 'captions', 'proposals', 'vocabularies', 'options'):
        verdicts = {one.verdict for one in outcomes if one.kind == kind}
        assert verdicts == {Verdict.LOADED, Verdict.REFUSED}, kind


@pytest.mark.mm
def test_hostile_boxes(tmp_path: Path) -> None:
    pytest.importorskip('mmdet.models')
    assert_good(list(run_inputs(tmp_path, 20, 1, NEED_MM)))


def test_files_cut_at_random_bytes(tmp_path: Path) -> None:
    assert_good(list(run_truncations(tmp_path, 28, 0)))


def test_a_full_disk(tmp_path: Path) -> None:
    assert_good(list(run_full_disk(tmp_path, 6, 0)))


def test_no_pickle_is_run(tmp_path: Path) -> None:
    outcomes = list(run_canaries(tmp_path))
    assert_good(outcomes)
    assert len(outcomes) == 7 * len(READERS) + 1


@pytest.mark.slow  # three trainings
@pytest.mark.parametrize('full_disk', [False, True])
def test_a_killed_training_goes_on(tmp_path: Path, full_disk: bool) -> None:
    assert_good(list(run_kills(tmp_path, 1, 0, ['stage 2'], full_disk=full_disk)))


def test_runs_that_differ_are_told_apart(tmp_path: Path, monkeypatch) -> None:
    for name, value in (('a', 1), ('b', 1), ('c', 2)):
        (tmp_path / name / 'x' / 'vis_data').mkdir(parents=True)
        (tmp_path / name / 'iter_2.pth').touch()
        log = json.dumps(dict(step=2, loss=1.0, time=value))
        (tmp_path / name / 'x' / 'vis_data' / 'scalars.json').write_text(log)

    def read(path: Path) -> dict:
        number = 2.0 if path.parent.name == 'c' else 1.0
        return dict(state_dict=dict(w=np.float64(number)), optimizer={}, param_schedulers=[])

    monkeypatch.setattr(kills, 'read_content', read)
    assert differences(tmp_path / 'a', tmp_path / 'b') == ''
    assert differences(tmp_path / 'a', tmp_path / 'c') == 'iter_2.pth state_dict.w'


def test_command(tmp_path: Path, capsys) -> None:
    """A table, every outcome as json, and the exit status."""
    line = ['--only', 'inputs', '--kinds', 'vocabularies', '--inputs', '5']
    assert command.main([*line, '--json', str(tmp_path / 'a.json')]) == 0
    printed = capsys.readouterr().out
    assert '| inputs | vocabularies | 5 |' in printed
    assert len(json.loads((tmp_path / 'a.json').read_text())) == 5
