"""Results of finished images in a folder, for a call that was stopped to go on."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from refineclip.encoders.text.name_files import read_json
from refineclip.encoders.weights.whole_files import read_cached, warn_made_anew, write_whole

SETTINGS = 'settings.json'


class ResultStore:
    """A file per image, in a folder per evaluation, whose name is a hash of its settings.

    What was made with other weights, data or settings lies in another folder and is never read.
    ``settings.json`` in the folder says in words what its files were made with. Files are written
    whole: any number of processes, and of calls, may share a folder.

    Args:
        root: Folder of the folders.
        settings: Everything that decides a result, save the image; plain data.

    Raises:
        ValueError: If the folder holds results of other settings than its name says.
    """

    def __init__(self, root: str | Path, settings: Mapping[str, Any]) -> None:
        self.folder = Path(root) / digest(settings)
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / SETTINGS
        text = json.dumps(settings, indent=1, sort_keys=True, default=str) + '\n'
        if not self._is_of(path, json.loads(text)):
            write_whole(path, lambda temporary: temporary.write_text(text))

    def _is_of(self, path: Path, settings: Any) -> bool:
        """Whether the folder says that it is of these settings; False where it says nothing."""
        if not path.is_file():
            return False
        try:
            found = read_json(path)
        except ValueError as error:
            warn_made_anew(str(error))
            return False
        if found == settings:
            return True
        kinds = (found, settings) if isinstance(found, dict) else ({}, settings)
        other = sorted(k for k in {**kinds[0], **kinds[1]} if kinds[0].get(k) != kinds[1].get(k))
        raise ValueError(
            f'{self.folder}: expected results of this evaluation, got those of another, which '
            f'differs in {", ".join(other)}; remove the folder, or name another one'
        )

    def read(self, key: str) -> Any:
        """The result of an image; None if there is none that is whole."""
        found = read_cached(self._path(key), ('result',))
        return None if found is None else found['result']

    def write(self, key: str, result: Any) -> None:
        """Keep the result of an image.

        Args:
            key: Names the image, see :func:`describe_file`.
            result: Tensors and plain data, and not None.
        """
        write_whole(self._path(key), lambda path: torch.save({'result': result}, path))

    def _path(self, key: str) -> Path:
        return self.folder / f'{key}.pth'


def describe_file(path: str | Path) -> list[Any]:
    """Where a file is, how large and of when, plain data; a file that is not there has no size."""
    path = Path(path)
    if not path.is_file():
        return [str(path.resolve())]
    stat = path.stat()
    return [str(path.resolve()), stat.st_size, stat.st_mtime_ns]


def digest(value: Any) -> str:
    """SHA-256 of plain data, in hexadecimal digits."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()
