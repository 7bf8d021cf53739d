"""docs/tutorial.ipynb: runs from top to bottom, and shows in the repository what it shows then."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.test_docs.pages import ROOT

NOTEBOOK = ROOT / 'docs' / 'tutorial.ipynb'
MAX_BYTES = 600_000


def code_cells(notebook: dict[str, Any]) -> list[dict[str, Any]]:
    return [cell for cell in notebook['cells'] if cell['cell_type'] == 'code']


def shown(cell: dict[str, Any]) -> set[str]:
    """Kinds of what a cell shows: a picture, other results, or printed text."""
    kinds = set()
    for output in cell['outputs']:
        assert output['output_type'] != 'error'
        kinds.add('picture' if 'image/png' in output.get('data', {}) else output['output_type'])
    return kinds


def test_what_is_stored() -> None:
    text = NOTEBOOK.read_text(encoding='utf-8')
    assert len(text) <= MAX_BYTES
    cells = code_cells(json.loads(text))
    assert [cell['execution_count'] for cell in cells] == list(range(1, len(cells) + 1))
    assert sum('picture' in shown(cell) for cell in cells) >= 3
    streams = [output for cell in cells for output in cell['outputs'] if 'name' in output]
    assert {output['name'] for output in streams} == {'stdout'}  # no warning
    assert str(Path.home()) not in text


@pytest.mark.slow
@pytest.mark.mm
def test_it_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbformat, nbclient = pytest.importorskip('nbformat'), pytest.importorskip('nbclient')
    (tmp_path / 'configs').symlink_to(ROOT / 'configs')
    paths = [str(ROOT), *filter(None, [os.environ.get('PYTHONPATH')])]
    monkeypatch.setenv('PYTHONPATH', os.pathsep.join(paths))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    before = [shown(cell) for cell in code_cells(notebook)]
    place = {'metadata': {'path': str(tmp_path)}}
    nbclient.NotebookClient(notebook, kernel_name='python3', resources=place).execute()
    assert [shown(cell) & {'picture'} for cell in code_cells(notebook)] == [
        kinds & {'picture'} for kinds in before
    ]
    assert (tmp_path / 'work_dirs' / 'tutorial' / 'student').is_dir()
