"""Files that a later run reads again: whole or absent, and made anew where they are not whole."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any
from uuid import uuid4

from mmengine.logging import print_log

from .checkpoint_file import read_content


def write_whole(path: str | Path, write: Callable[[Path], Any]) -> None:
    """Write a file whole or not at all, whichever processes of whichever nodes write it too.

    Args:
        path: The file.
        write: Writes the file of the name that it is given. What it raises, on a full disk say,
            passes on, and nothing is left.
    """
    path = Path(path)
    temporary = path.with_name(f'.{path.name}.{uuid4().hex}.tmp')
    try:
        write(temporary)
        with temporary.open('rb') as file:
            os.fsync(file.fileno())  # the name must not outlive the content, when power fails
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def read_cached(path: str | Path, keys: Collection[str] = ()) -> dict[str, Any] | None:
    """Read a file of tensors that can be made again, ``None`` if there is none that is whole.

    A file that is cut off or broken, or lacks some of the keys, gives a warning and ``None``.
    """
    path = Path(path)
    if not path.is_file():
        return None
    try:
        content = read_content(path)
        lacking = [key for key in keys if not isinstance(content, dict) or key not in content]
        if not lacking:
            return content
        reason = f'{path} lacks {lacking}'
    except ValueError as error:
        reason = str(error)
    warn_made_anew(reason)
    return None


def warn_made_anew(reason: str) -> None:
    """Warn that a cached file cannot be used, and why."""
    print_log(f'Cached file made anew: {reason}', logger='current', level=logging.WARNING)
