"""Labelled images as ImageNet lays them out: one folder per class."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.logging import print_log
from numpy.typing import NDArray

from refineclip.datasets.coco_json import read_json
from refineclip.datasets.image_folder import images_below
from refineclip.datasets.image_io import IMAGE_SUFFIXES
from refineclip.encoders.text.name_files import read_text

_NAME_FILES = ('classes.json', 'classes.txt')
_WORDNET_ID = re.compile(r'n\d{8}')
_NUM_NAMED = 5


class ClassFolders:
    """Paths, labels and class names of a folder of class folders.

    Class folders are sorted by name and hold images at any depth; hidden ones are left out. Names
    come from ``class_names``, else from ``classes.json`` or ``classes.txt`` in the folder, else
    from the names of the class folders. Such a file is

    - a JSON object ``{folder: name or [synonyms]}``, or a JSON list of names in the order of the
      sorted folders;
    - a text file with ``folder name`` per line (a tab or the first space between), or with one name
      per line in the order of the sorted folders.

    Entries of folders that do not exist are ignored, so one list serves subsets. Synonyms in a name
    are separated by ``;``.

    Args:
        root: The folder.
        class_names: File of class names.

    Attributes:
        folders: C names of class folders, sorted.
        names: C class names.
        paths: N image files.
        labels: (N,) class index.
        names_from: The file that names came from, None for the folders themselves.

    Raises:
        FileNotFoundError: If the folder or the file does not exist.
        ValueError: If there are fewer than two class folders, one of them has no image, or the file
            does not name every folder.
    """

    def __init__(self, root: str | Path, class_names: str | Path | None = None) -> None:
        self.root = Path(root)
        if not self.root.is_dir():
            raise FileNotFoundError(f'expected a folder of class folders, got {root}, no folder')
        self.folders = sorted(
            entry.name
            for entry in self.root.iterdir()
            if entry.is_dir() and not entry.name.startswith('.')
        )
        if len(self.folders) < 2:
            raise ValueError(
                f'expected two or more class folders in {root}, got {self.folders}; give the '
                'folder that holds one folder per class'
            )
        found = [images_below(self.root / folder) for folder in self.folders]
        self.paths = [
            self.root / folder / name
            for folder, names in zip(self.folders, found, strict=True)
            for name in names
        ]
        counts = [len(names) for names in found]
        self.labels: NDArray[np.int64] = np.repeat(np.arange(len(found), dtype=np.int64), counts)
        self._refuse_empty()
        beside = [self.root / name for name in _NAME_FILES if (self.root / name).is_file()]
        source = class_names if class_names is not None else next(iter(beside), None)
        self.names_from = None if source is None else Path(source)
        if self.names_from is None:
            self.names = self._own_names()
        else:
            self.names = read_class_names(self.names_from, self.folders)
        self._warn_of_twins()

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.paths)

    def _refuse_empty(self) -> None:
        count = np.bincount(self.labels, minlength=len(self.folders))
        empty = [name for name, number in zip(self.folders, count, strict=True) if not number]
        if empty:
            raise ValueError(
                f'expected images ({", ".join(IMAGE_SUFFIXES)}) in every class folder of '
                f'{self.root}, got none in {len(empty)} of {len(self.folders)}: '
                f'{empty[:_NUM_NAMED]}; fill or remove these folders'
            )

    def _own_names(self) -> list[str]:
        if all(_WORDNET_ID.fullmatch(folder) for folder in self.folders):
            raise ValueError(
                f'expected class names for the WordNet ids in {self.root} ({self.folders[0]}, '
                '...), which no text tower knows; give a file that maps ids to names (class_names, '
                "--class-names; ImageNet's LOC_synset_mapping.txt with ', ' turned into ';' is one)"
            )
        return list(self.folders)

    def _warn_of_twins(self) -> None:
        twins = [name for name, count in Counter(self.names).items() if count > 1]
        if twins:
            print_log(
                f'{self.names_from}: {len(twins)} names stand for more than one class folder and '
                f'cannot be told apart (first: {twins[:_NUM_NAMED]})',
                logger='current',
                level=logging.WARNING,
            )


def read_class_names(path: str | Path, folders: Sequence[str]) -> list[str]:
    """Read the names of class folders; see :class:`ClassFolders` for the forms.

    Args:
        path: The file.
        folders: C sorted class folders.

    Returns:
        C names, synonyms separated by ``;``.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it does not name every folder.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f'expected a file of class names, got {path}, which is no file')
    content: Any
    if path.suffix == '.json':
        content = read_json(path, 'class names')
    else:
        content = _parse_lines(read_text(path), folders, path)
    if isinstance(content, list):
        if len(content) != len(folders):
            raise ValueError(
                f'{path}: expected one name for each of the {len(folders)} class folders '
                f'({list(folders)[:_NUM_NAMED]}), got {len(content)} names that match none of them'
            )
        content = dict(zip(folders, content, strict=True))
    if not isinstance(content, dict):
        raise ValueError(f'{path}: expected an object or a list, got {type(content).__name__}')
    missing = [folder for folder in folders if folder not in content]
    if missing:
        how_many = 'none' if len(missing) == len(folders) else len(folders) - len(missing)
        raise ValueError(
            f'{path}: expected a name for each of the {len(folders)} class folders, got {how_many} '
            f'of them (missing: {missing[:_NUM_NAMED]}); its entries begin with '
            f'{list(content)[:_NUM_NAMED]}'
        )
    return [_join(content[folder], folder, path) for folder in folders]


def _parse_lines(text: str, folders: Sequence[str], path: Path) -> list[str] | dict[str, str]:
    """Lines as names by folder where they begin with folders, else as names in order."""
    known = set(folders)
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    pairs = []
    for line in lines:
        folder, _, name = line.partition('\t') if '\t' in line else line.partition(' ')
        pairs.append((line, line) if line in known else (folder.strip(), name.strip()))
    if not any(folder in known for folder, _ in pairs):
        return lines
    keys = [folder for folder, _ in pairs]
    twice = sorted({key for key in keys if keys.count(key) > 1 and key in known})
    if twice:
        raise ValueError(
            f'{path}: expected each class folder once, got {twice[:_NUM_NAMED]} more often; put a '
            'tab between folder and name'
        )
    return dict(pairs)


def _join(value: Any, folder: str, path: Path) -> str:
    parts = value if isinstance(value, list) else [value]
    if not parts or not all(isinstance(part, str) and part.strip() for part in parts):
        raise ValueError(f'{path}: expected a name or names for {folder!r}, got {value!r}')
    return ';'.join(parts)
