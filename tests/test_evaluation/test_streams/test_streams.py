"""Images one by one: shared, kept, refused where they are others'."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from unittest import mock

import pytest
import torch

from refineclip.evaluation.streams import (
    ImageStream,
    ResultStore,
    describe_file,
    digest,
    image_stream,
)

SETTINGS = dict(model='a', size=[2, 3])


def squares(stream: ImageStream, stop: int | None = None) -> list[int]:
    """Let a stream say the square of each image, or break off before the image ``stop``."""
    seen = []
    for index in stream:
        if index == stop:
            break
        seen.append(index)
        stream.put(index, {'square': torch.tensor(index**2)})
    return seen


def test_a_stopped_stream_goes_on(tmp_path: Path) -> None:
    names = [f'image-{i}' for i in range(5)]
    assert squares(ImageStream(names, ResultStore(tmp_path, SETTINGS)), stop=3) == [0, 1, 2]
    # Of other images it finds those that it shares.
    stream = ImageStream(['new', *names], ResultStore(tmp_path, SETTINGS))
    assert squares(stream) == [0, 4, 5]
    assert [one['square'].item() for one in stream.gather()] == [0, 0, 1, 4, 16, 25]
    # Other settings, other results.
    other = ResultStore(tmp_path, {**SETTINGS, 'model': 'b'})
    assert ImageStream(names, other).missing == [0, 1, 2, 3, 4]
    assert json.loads((other.folder / 'settings.json').read_text())['model'] == 'b'


def test_images_are_dealt_out(monkeypatch: pytest.MonkeyPatch) -> None:
    own = []
    for rank in range(3):
        monkeypatch.setattr(image_stream, 'get_dist_info', lambda rank=rank: (rank, 3))
        own.append(ImageStream(7).missing)
    assert own == [[0, 3, 6], [1, 4], [2, 5]]


def test_a_folder_of_another_evaluation_is_refused(tmp_path: Path) -> None:
    store = ResultStore(tmp_path, SETTINGS)
    assert ResultStore(tmp_path, SETTINGS).folder == store.folder
    ResultStore(tmp_path, {'model': 'c', 'size': [2, 3]}).folder.rename(tmp_path / 'c')
    for file in store.folder.iterdir():
        file.unlink()
    store.folder.rmdir()
    (tmp_path / 'c').rename(store.folder)
    with pytest.raises(ValueError, match='got those of another, which differs in model; remove'):
        ResultStore(tmp_path, SETTINGS)


@pytest.mark.parametrize('part', [0.0, 0.5, 0.95])
def test_a_file_that_is_cut_off_is_made_anew(
    tmp_path: Path, part: float, caplog: pytest.LogCaptureFixture
) -> None:
    squares(ImageStream(['a', 'b', 'c'], ResultStore(tmp_path, SETTINGS)))
    store = ResultStore(tmp_path, SETTINGS)
    for name in ('b.pth', 'settings.json'):
        whole = (store.folder / name).read_bytes()
        (store.folder / name).write_bytes(whole[: int(part * len(whole))])
    with mock.patch('refineclip.encoders.weights.whole_files.print_log') as log:
        stream = ImageStream(['a', 'b', 'c'], ResultStore(tmp_path, SETTINGS))
    assert all(call.args[0].startswith('Cached file made anew') for call in log.call_args_list)
    assert [call.kwargs['level'] for call in log.call_args_list] == [logging.WARNING] * 2
    assert squares(stream) == [1]
    assert [one['square'].item() for one in stream.gather()] == [0, 1, 4]
    assert ImageStream(['a', 'b', 'c'], ResultStore(tmp_path, SETTINGS)).missing == []


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path) -> None:
    store = ResultStore(tmp_path, SETTINGS)
    with (
        mock.patch('torch.save', side_effect=OSError(28, 'No space left on device')),
        pytest.raises(OSError, match='No space left'),
    ):
        store.write('a', 1)
    assert [path.name for path in store.folder.iterdir()] == ['settings.json']


def test_progress_wraps_what_is_missing(tmp_path: Path) -> None:
    shown: list[list[int]] = []

    def track(items: list[int]) -> list[int]:
        shown.append(list(items))
        return items

    squares(ImageStream(['a', 'b'], ResultStore(tmp_path, SETTINGS)), stop=1)
    squares(ImageStream(['a', 'b'], ResultStore(tmp_path, SETTINGS), track))
    assert shown == [[1]]


def test_a_file_is_described_by_what_changes_with_it(tmp_path: Path) -> None:
    path = tmp_path / 'a'
    before = digest(describe_file(path))
    path.write_text('1')
    first = digest(describe_file(path))
    path.write_text('12')
    assert len({before, first, digest(describe_file(path))}) == 3


def test_two_calls_at_once_share_a_folder(tmp_path: Path) -> None:
    first, second = (ImageStream(['a', 'b', 'c'], ResultStore(tmp_path, SETTINGS)) for _ in '12')
    squares(first, stop=2)
    squares(second)
    squares(first, stop=None)
    assert first.gather() == second.gather() == [{'square': torch.tensor(n)} for n in (0, 1, 4)]
    assert not list(second.store.folder.glob('.*'))  # nothing half-written is left
