"""The harness on work that costs nothing."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

pytestmark = pytest.mark.skipif(sys.platform != 'linux', reason='peak memory is read from /proc')

from benchmarks import __main__ as command  # noqa: E402
from benchmarks import report  # noqa: E402
from benchmarks.forks import ChildError, in_fork, peak_growth  # noqa: E402
from benchmarks.harness import (  # noqa: E402
    Comparison,
    DifferentNumbersError,
    Goal,
    Result,
    compare,
    relative_difference,
    toy,
)


def comparison(a: float = 1.0, b: float = 1.0, **kwargs) -> Comparison:
    return Comparison(
        published=lambda: dict(loss=torch.tensor(a)),
        ours=lambda: dict(loss=torch.tensor(b)),
        setting='nothing',
        bound='nothing',
        tolerances=dict(loss=0.1),
        **{'memory': False, 'repeats': 1, **kwargs},
    )


def result(**kwargs) -> Result:
    values = dict(
        setting='a setting',
        bound='a bound',
        differences=dict(loss=1e-7),
        tolerances=dict(loss=1e-6),
        seconds=([3.0, 4.0, 8.0], [2.0, 2.0, 2.0]),
        cpu_seconds=([3.0, 3.0, 3.0], [2.0, 2.0, 2.0]),
        peak_mib=(100.0, 25.0),
        facts=dict(bytes=27.0),
        goals=[Goal('speedup', at_least=1.5), Goal('memory', at_most=0.2)],
    )
    return Result(**{**values, **kwargs})


class TestCompare:
    def test_sides_take_turns(self):
        calls = []
        sides = {
            name: lambda name=name: calls.append(name) or dict(loss=torch.tensor(1.0))
            for name in 'AB'
        }
        found = compare(
            replace(comparison(), published=sides['A'], ours=sides['B'], repeats=3, calls=2)
        )
        # One of each for the numbers, then pairs.
        assert ''.join(calls) == 'AB' + 'AABB' * 3
        assert [len(times) for times in found.seconds] == [3, 3]

    @pytest.mark.parametrize('other', [1.2, float('nan')])
    def test_different_numbers_are_refused(self, other: float):
        with pytest.raises(DifferentNumbersError, match='loss'):
            compare(comparison(b=other))

    def test_missing_numbers_are_refused(self):
        with pytest.raises(DifferentNumbersError, match='gradient'):
            compare(replace(comparison(), tolerances=dict(loss=0.1, gradient=0.1)))

    def test_difference_is_relative(self):
        assert relative_difference(torch.tensor([3.0, 4.0]), torch.tensor([3.0, 4.5])) == (
            pytest.approx(0.1)
        )

    def test_toy_claims_nothing(self):
        small = toy(comparison(goals=(Goal('speedup', at_least=2),), repeats=0))
        assert (small.goals, small.repeats, small.setting) == ((), 2, 'toy sizes')


class TestResult:
    def test_figures(self):
        figures = {'speedup': 2.0, 'cpu_speedup': 1.5, 'memory': 0.25, 'bytes': 27.0}
        assert result().figures() == figures
        assert result(peak_mib=None, facts={}).figures() == {'speedup': 2.0, 'cpu_speedup': 1.5}

    def test_json_says_which_goals_are_reached(self):
        row = result().as_json()
        assert [goal['reached'] for goal in row['goals']] == [True, False]
        assert row['speedup_range'] == [1.5, 4.0]

    def test_goal_in_words(self):
        assert str(Goal('memory', at_most=0.6)) == 'memory <= 0.6'


class TestForks:
    def test_result_and_error_come_back(self):
        assert in_fork(sum, [1, 2]) == 3
        with pytest.raises(ChildError, match='ZeroDivisionError'):
            in_fork(divmod, 1, 0)

    def test_a_killed_child_is_told(self):
        with pytest.raises(ChildError, match='exit status 3'):
            in_fork(_leave)

    def test_peak_growth_counts_what_is_freed_before_the_end(self):
        assert 62 < in_fork(peak_growth, _fill_64_mib) < 70


def _leave() -> None:
    import os

    os._exit(3)


def _fill_64_mib() -> None:
    memory = bytearray(2**26)
    memory[::4096] = b'x' * len(memory[::4096])


class TestReport:
    def test_rows_are_merged_by_name(self, tmp_path: Path):
        report.store(tmp_path, 'a', dict(value=1))
        report.store(tmp_path, 'b', dict(value=2))
        report.store(tmp_path, 'a', dict(value=3))
        assert report.load(tmp_path) == dict(a=dict(value=3), b=dict(value=2))

    def test_tables(self):
        rows = dict(one=result().as_json(), two=dict(skipped='no compiler'))
        step = dict(device='a GPU', batch_size=16, dtype='bfloat16', peak_gib=20.0)
        step['figures'] = dict(images_per_second=210.0, loader_cores=0.7, mfu=0.45)
        text = report.tables({**rows, 'gpu-b16-560': step}, ['one', 'two', 'three'])
        pairs, steps = (part.splitlines()[2:] for part in text.split('\n\n'))
        assert 'memory <= 0.2: **missed**' in pairs[0]
        assert '2.00 (1.50 to 4.00, 3); CPU 1.50' in pairs[0]
        assert '0.250 (25 / 100 MiB)' in pairs[0]
        assert 'not measured: no compiler' in pairs[1]
        assert 'not measured: run' in pairs[2]
        assert '| 210 | 20.0 GiB | 0.45 | 0.70 |' in steps[0]
        assert len(steps) == 3
        assert steps[1].count('not measured') == 4
        assert len({row.count('|') for row in pairs}) == len({row.count('|') for row in steps}) == 1

    def test_write_into_a_page(self, tmp_path: Path):
        page = tmp_path / 'page.md'
        page.write_text(f'before\n{report.BEGIN}\nold\n{report.END}\nafter\n')
        report.write_into(page, 'new\n')
        assert page.read_text() == f'before\n{report.BEGIN}\nnew\n{report.END}\nafter\n'
        page.write_text('no marks')
        with pytest.raises(ValueError, match='once each'):
            report.write_into(page, 'new\n')

    def test_unknown_row(self, capsys: pytest.CaptureFixture[str]):
        with pytest.raises(SystemExit):
            command.parse_args(['loda'], ['loader'])
        assert 'loader' in capsys.readouterr().err

    def test_quick_runs_write_nowhere_by_default(self):
        assert command.parse_args(['--quick'], []).out is None
        assert command.parse_args([], []).out == command.HERE
