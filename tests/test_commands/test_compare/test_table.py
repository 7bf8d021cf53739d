"""Table, front and intervals, on numbers made by hand."""

from __future__ import annotations

import numpy as np

from refineclip.commands.compare.results.report import collect, differences
from refineclip.commands.compare.results.table import markdown_table, pareto_front, summary
from refineclip.commands.compare.suite import Method
from refineclip.evaluation.bootstrap import ImageScores

AXES = ('boxes', 'auc')
COLUMNS = dict(boxes='Boxes', auc='AUC')


def scores(boxes: float, auc: float | None) -> dict[str, ImageScores]:
    """Forty images that move together, so that differences are exact."""
    wave = 0.01 * np.sin(np.arange(40))
    values = dict(boxes=boxes) if auc is None else dict(boxes=boxes, auc=auc)
    return {name: ImageScores.from_values(value + wave) for name, value in values.items()}


ROWS = {
    'frozen': [scores(0.1, 0.8)],
    'RLA': [scores(0.5, 0.6), scores(0.5, 0.6)],
    'ours': [scores(0.4, 0.7), scores(0.6, 0.7)],
    'rival': [scores(0.6, 0.75), scores(0.6, 0.75)],
    'colour': [scores(0.0, None)],
}


def test_front_and_sentence():
    assert pareto_front(ROWS, AXES) == ['frozen', 'rival']
    assert summary(ROWS, AXES, COLUMNS, 'ours') == (
        '**rival** is better than ours on both axes of the front, Boxes and AUC.'
    )
    assert summary(ROWS, AXES, COLUMNS, 'rival').startswith('No row is better than rival')
    assert summary(ROWS, AXES, COLUMNS, 'absent') == ''


def test_cells_hold_mean_spread_and_difference():
    table = markdown_table(ROWS, differences(ROWS, 'RLA'), COLUMNS, AXES).splitlines()
    assert table[0] == '| row | Boxes | AUC | seeds |'
    assert table[2] == (
        '| frozen * | 0.100<br>**-0.400 [-0.400, -0.400]** | '
        '0.800<br>**+0.200 [+0.200, +0.200]** | 1 |'
    )
    assert table[3] == '| RLA | 0.500 ± 0.000 | 0.600 ± 0.000 | 2 |'
    # Differences of -.1 and .1: t(.975, 1) = 12.706 times .1414 / sqrt(2).
    assert '0.500 ± 0.141<br>+0.000 [-1.271, +1.271]' in table[4]
    assert table[6].startswith('| colour | 0.000')
    assert table[6].endswith('| - | 1 |')


def test_a_stopped_comparison_has_the_rows_and_seeds_that_are_there():
    methods = [Method('a', '', '', config='x.py'), Method('b', '', ''), Method('c', '', 's')]
    done = {'measure a, seed 1': dict(scores={}), 'measure b': dict(scores={})}
    assert collect(methods, [0, 1, 2], done) == {'a': [{}], 'b': [{}]}


def test_rows_of_other_numbers_of_seeds_are_not_compared():
    rows = {'RLA': [scores(0.5, 0.6)] * 3, 'ours': [scores(0.5, 0.6)] * 2}
    assert differences(rows, 'RLA') == {}
    assert differences({'ours': ROWS['ours']}, 'RLA') == {}
