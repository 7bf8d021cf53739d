from __future__ import annotations

import math

import pytest

from refineclip.visualization import metric_figure


def test_a_dot_and_an_interval_per_model() -> None:
    rows = {'frozen': {'auc': (0.8, 0.7, 0.85), 'knn': 0.5}, 'refined': {'auc': math.nan}}
    figure = metric_figure(rows, {'auc': 'affinity AUC'}, 'bars: 95 %')
    left, right = figure.axes
    assert left.get_title() == 'affinity AUC'
    assert right.get_title() == 'knn'
    assert list(left.lines[0].get_xdata()) == [0.7, 0.85]
    assert list(left.lines[1].get_xdata()) == [0.8]
    assert len(left.lines) == len(right.lines) == 2  # nothing for the undefined and the missing
    assert [text.get_text() for text in left.get_yticklabels()] == ['frozen', 'refined']
    assert left.get_ylim()[0] > left.get_ylim()[1]  # the first row on top


def test_nothing_to_draw() -> None:
    with pytest.raises(ValueError, match='models with measures'):
        metric_figure({'frozen': {}})
