from __future__ import annotations

from pathlib import Path

import pytest
import torch

from refineclip.export.folder import RECORD, check_no_pickle, write_folder, write_record


def fill(folder: Path) -> str:
    write_record(folder, dict(what='toy'))
    return 'done'


def test_a_folder_comes_whole_with_what_its_filler_returned(tmp_path: Path) -> None:
    assert write_folder(tmp_path / 'deep' / 'out', False, fill) == 'done'
    assert [path.name for path in (tmp_path / 'deep').iterdir()] == ['out']
    assert (tmp_path / 'deep' / 'out' / RECORD).is_file()


def test_a_filler_that_fails_leaves_nothing(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        fill(folder)
        raise OSError('the disk is full')

    with pytest.raises(OSError, match='full'):
        write_folder(tmp_path / 'out', False, fail)
    assert not list(tmp_path.iterdir())


def test_an_earlier_export_stays_when_its_replacement_fails(tmp_path: Path) -> None:
    write_folder(tmp_path / 'out', False, fill)
    (tmp_path / 'out' / 'old.json').write_text('{}')
    with pytest.raises(ZeroDivisionError):
        write_folder(tmp_path / 'out', True, lambda folder: 1 / 0)
    assert (tmp_path / 'out' / 'old.json').is_file()
    write_folder(tmp_path / 'out', True, fill)
    assert [path.name for path in (tmp_path / 'out').iterdir()] == [RECORD]
    assert [path.name for path in tmp_path.iterdir()] == ['out']


def test_what_is_there_is_named(tmp_path: Path) -> None:
    out = tmp_path / 'out'
    out.mkdir()
    with pytest.raises(ValueError, match=r'a new folder, got .*out, which exists; --force'):
        write_folder(out, False, fill)
    write_folder(out, True, fill)  # an empty folder loses nothing
    (out / RECORD).unlink()
    (out / 'photo.txt').write_text('mine')
    with pytest.raises(ValueError, match=f'without {RECORD}: it holds something else'):
        write_folder(out, True, fill)
    assert (out / 'photo.txt').read_text() == 'mine'
    with pytest.raises(ValueError, match='expected a folder to replace'):
        write_folder(out / 'photo.txt', True, fill)


@pytest.mark.parametrize('name', ['model.bin', 'model.safetensors', 'graph.onnx', 'note.json'])
def test_a_pickle_under_any_name_is_refused(tmp_path: Path, name: str) -> None:
    def pickled(folder: Path) -> None:
        torch.save({'weight': torch.ones(1)}, folder / name)

    with pytest.raises(ValueError, match=f'got {name}, which could hold a pickle'):
        write_folder(tmp_path / 'out', False, pickled)
    assert not list(tmp_path.iterdir())


def test_kinds_of_files_that_run_no_code_pass(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({'weight': torch.ones(1)}, tmp_path / 'model.safetensors')
    (tmp_path / 'merges.txt').write_text('a b')
    check_no_pickle(tmp_path)
    (tmp_path / 'code.py').write_text('import os')
    with pytest.raises(ValueError, match=r'got code\.py'):
        check_no_pickle(tmp_path)
