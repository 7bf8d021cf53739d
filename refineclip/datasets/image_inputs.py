"""From what a user names, files and folders, to images and the names of their results."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mmengine.logging import print_log

from refineclip.datasets.image_folder import list_images

_PARTS = ('vis', 'labels', 'preds')


@dataclass(frozen=True)
class NamedImage:
    """An image file and what its results are called.

    Attributes:
        path: The file.
        name: Path below the folder of results, with the image's suffix; no other image has it.
        stem: The same without the suffix, or with it where another image has the same stem.
    """

    path: Path
    name: Path
    stem: Path

    def result(self, folder: Path, suffix: str) -> Path:
        """A file of results below ``folder``, as ``'.json'``; its own folder is made."""
        path = folder / self.stem.with_name(self.stem.name + suffix)
        path.parent.mkdir(parents=True, exist_ok=True)
        return path


def find_inputs(
    sources: str | Path | Sequence[str | Path], results: Path | None = None
) -> list[NamedImage]:
    """Images of files and folders, each once, and names that keep them apart.

    Folders are searched with their sub-folders. Names are paths relative to the deepest folder that
    holds everything that was given: ``photos/`` gives ``a`` and ``deep/b``, ``cam1 cam2`` give
    ``cam1/a`` and ``cam2/a``. ``a.jpg`` beside ``a.png`` are called ``a.jpg`` and ``a.png``.

    Args:
        sources: Files and folders.
        results: Folder of results, of which ``vis``, ``labels`` and ``preds`` are not searched, so
            that an earlier call's pictures are no input. Nor are those of other folders of results,
            known by ``vis`` beside ``labels`` or ``preds``: that is said.

    Raises:
        FileNotFoundError: If a path does not exist.
        ValueError: If a folder has no image, or nothing is given.
    """
    named = [sources] if isinstance(sources, str | Path) else list(sources)
    given = [Path(one) for one in named]
    if not given or '' in named:
        raise ValueError('expected images or folders of images, got none')
    parts = () if results is None else _PARTS
    # Links are followed here: OUT may be reached by another name than the images.
    written = [Path(results or '', part).resolve() for part in parts]
    files: dict[Path, Path] = {}
    for path in given:
        if not path.exists():
            raise FileNotFoundError(
                f'expected an image or a folder of images, got {path}: no such file'
            )
        found = [path / name for name in list_images(path)] if path.is_dir() else [path]
        of_others = {place for place in {one.parent for one in found} if _is_result(place, path)}
        if left := sum(file.parent in of_others for file in found):
            print_log(
                f'{left} images below {path} are left out: results of an earlier call (vis beside '
                'labels or preds); name their folder to take them',
                logger='current',
                level=logging.WARNING,
            )
        for file in found:
            if file.parent in of_others:
                continue
            whole = _whole(file)
            if path.is_file() or not _inside(file, written):
                files.setdefault(whole, file)
    if not files:
        raise ValueError(f'expected images, got only results of an earlier call below {results}')
    root = os.path.commonpath([_whole(p if p.is_dir() else p.parent) for p in given])
    names = [whole.relative_to(root) for whole in files]
    count = Counter(name.with_suffix('') for name in names)
    stems = [name if count[name.with_suffix('')] > 1 else name.with_suffix('') for name in names]
    if len(set(stems)) < len(stems):  # 'a.jpg.png' beside 'a.jpg' and 'a.png'
        stems = names
    return [NamedImage(*each) for each in zip(files.values(), names, stems, strict=True)]


def _is_result(folder: Path, top: Path) -> bool:
    below = [one for one in (folder, *folder.parents) if one != top and one.is_relative_to(top)]
    return any(
        one.name in _PARTS
        and (one.parent / 'vis').is_dir()
        and any((one.parent / other).is_dir() for other in _PARTS[1:])
        for one in below
    )


def _inside(file: Path, folders: Sequence[Path]) -> bool:
    # Not the file itself: a photo may be a link into an earlier result.
    place = file.parent.resolve()
    return any(place.is_relative_to(folder) for folder in folders)


def _whole(path: Path) -> Path:
    return Path(os.path.abspath(path))  # noqa: PTH100  (resolve() would follow links)
