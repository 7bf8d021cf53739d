"""The conditions on the microworld's CLIP, by hand, and the command on a few images."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.__main__ import main
from benchmarks.microworld_clip import COLUMNS, conditions, table
from refineclip.datasets.microworld import write_split
from refineclip.evaluation.bootstrap import ImageScores

MEASURES = ('auc', 'imk', 'gk', 'knn', 'ridge')


def _scores(value: float, **others: float) -> dict[str, ImageScores]:
    values = dict.fromkeys(MEASURES, value) | others
    return {key: ImageScores.from_values(np.full(20, one)) for key, one in values.items()}


@pytest.fixture
def rows() -> dict[str, dict[str, ImageScores]]:
    own = _scores(0.5, crops_things_top1=0.9, boxes_things_top1=0.3)
    return {'colour': _scores(0.4), 'random': _scores(0.42), 'own': own}


def test_all_hold(rows):
    told = conditions(rows, 'own')
    assert all(holds for _, holds in told)
    assert told[0][0] == 'W1 own: crops 0.900, asked 0.8'
    assert [sentence.split()[0] for sentence, _ in told] == ['W1', *['W2'] * 8, 'W3']


@pytest.mark.parametrize(
    ('row', 'changed', 'words'),
    [
        ('own', {'crops_things_top1': 0.79}, 'W1 own: crops'),
        ('own', {'boxes_things_top1': 0.75}, 'W3 own: crops over boxes'),
        ('random', {'gk': 0.46}, 'W2 own: gk over random'),  # asked by .05
        ('random', {'imk': 0.5}, 'W2 own: imk over random'),
        ('colour', {'knn': 0.6}, 'W2 own: knn over colour'),
    ],
)
def test_each_can_fail(rows, row, changed, words):
    rows[row] |= _scores(0.0, **changed) | {
        key: value for key, value in rows[row].items() if key not in changed
    }
    failed = [sentence for sentence, holds in conditions(rows, 'own') if not holds]
    assert len(failed) == 1
    assert failed[0].startswith(words)


def test_colour_may_win_where_it_is_not_asked(rows):
    rows['colour']['auc'] = rows['colour']['imk'] = ImageScores.from_values(np.full(20, 0.9))
    assert all(holds for _, holds in conditions(rows, 'own'))


def test_the_table_leaves_out_what_a_row_has_not(rows):
    lines = table(rows).splitlines()
    assert len(lines) == 2 + 3
    assert lines[2] == '| colour | - | - | 0.400 | 0.400 | 0.400 | 0.400 | 0.400 |'
    assert lines[0].count('|') == len(COLUMNS) + 2


def test_the_command(tmp_path: Path, capsys):
    write_split(tmp_path, 'few', 6)
    words = ['microworld-clip', '--data', str(tmp_path), '--split', 'few']
    status = main([*words, '--picture', str(tmp_path / 'maps.png')])
    out = capsys.readouterr().out
    assert '| shipped |' in out
    assert status == int('FAILS' in out)
    assert (tmp_path / 'maps.png').stat().st_size > 10_000


def test_images_that_are_not_there_are_refused(tmp_path: Path):
    with pytest.raises(FileNotFoundError, match='expected the split val of the microworld'):
        main(['microworld-clip', '--data', str(tmp_path)])


def test_a_row_without_a_name_is_refused(capsys):
    with pytest.raises(SystemExit):
        main(['microworld-clip', 'shipped'])
    assert 'expected NAME=SPEC' in capsys.readouterr().err
