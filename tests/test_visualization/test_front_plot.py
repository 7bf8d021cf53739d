from __future__ import annotations

import pytest

from refineclip.visualization import front_figure

ROWS = {
    'frozen': ((0.1, 0.1, 0.1), (0.8, 0.8, 0.8)),
    'refined': ((0.3, 0.25, 0.4), (0.7, 0.65, 0.75)),
}


def test_rows_are_points_with_their_intervals() -> None:
    figure = front_figure(ROWS, ('boxes', 'auc'), 'up is better')
    (axes,) = figure.axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ('boxes', 'auc')
    points = [line.get_xydata().tolist() for line in axes.lines if line.get_markersize() == 9]
    assert points == [[[0.1, 0.8]], [[0.3, 0.7]]]
    across, upwards = (bar.get_segments()[0].tolist() for bar in axes.collections[2:])
    assert across == [[0.25, 0.7], [0.4, 0.7]]
    assert upwards == [pytest.approx([0.3, 0.65]), pytest.approx([0.3, 0.75])]
    assert figure.texts[0].get_text() == 'up is better'


def test_rival_and_paths() -> None:
    rival = ('blended', [(0.1, 0.8), (0.2, 0.72)])
    figure = front_figure(ROWS, ('boxes', 'auc'), rival=rival, paths={'refined': [(0.1, 0.8)]})
    (axes,) = figure.axes
    assert axes.lines[0].get_xydata().tolist() == [[0.1, 0.8], [0.2, 0.72]]
    assert [0.1, 0.8] in axes.lines[2].get_xydata().tolist()
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names == ['frozen', 'refined', 'blended']
