from __future__ import annotations

from pathlib import Path

import pytest

from refineclip.visualization import read_scalars, training_curves_figure


def test_scalars_of_a_run_and_their_curves(tmp_path: Path) -> None:
    file = tmp_path / 'scalars.json'
    file.write_text(
        '{"loss": 3.0, "lr": 0.1, "step": 1, "iter": 1}\n{"loss": 2.0, "step": 2}\n\n'
        '{"auc": 0.7, "step": 2}\n{"loss": 1.5, "step": 2}\n'
    )
    scalars = read_scalars(file)
    assert scalars == {'loss': [(1, 3.0), (2, 1.5)], 'lr': [(1, 0.1)], 'auc': [(2, 0.7)]}
    figure = training_curves_figure({'a': scalars, 'b': {'loss': [(1, 9.0)]}}, ['loss', 'auc'])
    assert [axes.get_title() for axes in figure.axes] == ['loss', 'auc']
    assert list(figure.axes[0].lines[0].get_ydata()) == [3.0, 1.5]
    assert [text.get_text() for text in figure.legends[0].get_texts()] == ['a', 'b']
    with pytest.raises(ValueError, match=r"expected some of .*, got \['miou'\]"):
        training_curves_figure({'a': scalars}, ['miou'])


def test_wrong_files(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match='of a run'):
        read_scalars(tmp_path / 'none.json')
    file = tmp_path / 'bad.json'
    file.write_text('{"step": 1, "loss": 1}\n{broken\n')
    with pytest.raises(ValueError, match=':2: expected a json object'):
        read_scalars(file)
    file.write_text('{"loss": 1}\n')
    with pytest.raises(ValueError, match='lines with a step'):
        read_scalars(file)
