"""Any folder of images, and what lists images."""

from __future__ import annotations

import codecs
import logging
import os
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mmengine.logging import print_log
from mmengine.registry import DATASETS
from PIL import Image

from refineclip.datasets.coco_json import check_records, file_name_of, shown
from refineclip.datasets.image_io import (
    IMAGE_SUFFIXES,
    BadImageError,
    read_image,
    read_image_size,
)
from refineclip.datasets.json_stream import JsonStream
from refineclip.datasets.packed import PackedNames
from refineclip.datasets.region_images import RegionImages
from refineclip.encoders.text.name_files import is_file


@DATASETS.register_module()
class RegionImageFolder(RegionImages):
    """:class:`RegionImages` of a folder, found recursively and sorted by name.

    Args:
        data_root: Folder of images (jpg, jpeg, png, webp, bmp), e.g. COCO's ``train2017``.
        region_sampler: Config of a registered region sampler, or the sampler itself.
        ann_file: Use only the images listed here: a COCO or LVIS style JSON (``images`` with
            ``file_name`` or ``coco_url``), or a text file with one name per line. Names are
            relative to ``data_root``. None uses all.
        min_size: Least width and height in pixels; give at least the patch size.
        limit: Use the first ``limit`` images only.
        seed: Seed of the region draws.
        fixed_regions: Draw the same regions in every epoch, as feature caches need.

    Raises:
        FileNotFoundError: The folder, the list or a listed image does not exist.
        ValueError: There is no image, or the sampler does not fit the images.
    """

    def __init__(
        self,
        data_root: str,
        region_sampler: dict[str, Any] | Any,
        ann_file: str | None = None,
        min_size: int = 32,
        limit: int | None = None,
        seed: int = 0,
        fixed_regions: bool = False,
    ) -> None:
        if not data_root:  # Path('') would be the current folder
            raise FileNotFoundError(
                f'data_root: expected a folder of images, got {data_root!r}; was a variable unset?'
            )
        root = Path(data_root)
        self.min_size = min_size
        if not root.is_dir():
            raise FileNotFoundError(_missing_folder(root))
        names = list_images(root) if ann_file is None else listed_images(root, ann_file)
        if limit is not None and limit < 1:
            raise ValueError(f'limit: expected an integer >= 1 or None, got {limit}.')
        super().__init__(data_root, PackedNames(names[:limit]), region_sampler, seed, fixed_regions)

    def read(self, index: int) -> Image.Image:
        """Read image ``index``."""
        return read_image(self.path(index), self.min_size)

    def aspect_ratio(self, index: int) -> float:
        """Return width / height of an image from its header; ``index`` may carry the epoch.

        1 for a file that cannot be used: the loader will drop and report it.
        """
        try:
            width, height = read_image_size(self.path(index % len(self)))
        except BadImageError:
            return 1.0
        return width / height


def listed_images(folder: Path, ann_file: str | Path) -> list[str]:
    """Return the names that a file lists, see :func:`read_image_list`.

    Raises:
        FileNotFoundError: It lists none, or one that is not below the folder.
    """
    names = read_image_list(ann_file)
    missing = [name for name in names if not is_file(folder / name)]
    if missing or not names:
        raise FileNotFoundError(
            f'Expected {ann_file} to list images below {folder}, got {len(names)} '
            f'names of which {len(missing)} do not exist (first: {missing[:1]}).'
        )
    return names


def list_images(folder: Path) -> list[str]:
    """Return the images below a folder, as sorted relative posix paths.

    Links to folders are followed, each folder once: a link that leads back ends there.

    Raises:
        ValueError: There is none; the message says what is there instead.
    """
    names = images_below(folder)
    if not names:
        found = sorted(entry.name for entry in folder.iterdir())
        raise ValueError(
            f'Expected images ({", ".join(IMAGE_SUFFIXES)}) below {folder}, got none. The folder '
            f'holds {len(found)} entries: {found[:5]}.'
        )
    return names


def images_below(folder: Path) -> list[str]:
    """As :func:`list_images`; none is no error."""
    return sorted(
        (Path(root) / file).relative_to(folder).as_posix()
        for root, files in _walk(folder)
        for file in files
        # macOS leaves '._name.jpg' companions that are no images.
        if file.lower().endswith(IMAGE_SUFFIXES) and not file.startswith('.')
    )


def _walk(folder: Path) -> Iterator[tuple[str, list[str]]]:
    """Every folder below one with its files; real folders first, so that they give the names."""
    seen: set[str] = set()
    starts = deque([folder])
    while starts:
        for root, folders, files in os.walk(starts.popleft(), onerror=_warn_unread):
            real = os.path.realpath(root)
            if real in seen:
                folders.clear()
                continue
            seen.add(real)
            inside = (Path(root, name) for name in sorted(folders))
            starts += (path for path in inside if path.is_symlink())
            yield root, files


def _warn_unread(error: OSError) -> None:
    print_log(
        f'images below {error.filename} are left out: {error.strerror}',
        logger='current',
        level=logging.WARNING,
    )


def read_image_list(path: str | Path) -> list[str]:
    """Read image names from a COCO or LVIS style JSON, or a text file with one name per line.

    LVIS has no ``file_name``; the last two parts of ``coco_url`` (``train2017/000000000139.jpg``)
    serve, relative to the COCO root.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: The json is none, or an image in it has no name.
    """
    path = Path(path)
    if path.suffix == '.json':
        return _names_of_records(path)
    if not path.is_file():
        raise FileNotFoundError(f'Expected a list of images, got {path}, which is no file.')
    return [line.strip() for line in _read_lines(path) if line.strip()]


def _names_of_records(path: Path) -> list[str]:
    names: list[str] = []
    listed = False
    for key, records, start in JsonStream(path, 'images'):
        if key != 'images' or not isinstance(records, list):
            continue
        listed = True
        check_records(path, 'images', records, (), start=max(start, 0))
        for index, record in enumerate(records, start):
            name = file_name_of(record, parts=2)
            if not name:
                raise ValueError(
                    f"{path}: expected 'file_name' or 'coco_url' in each of images, got neither in "
                    f'images[{index}]: {shown(record)}'
                )
            names.append(name)
    if not listed:
        raise ValueError(f"{path}: expected a json of images with a list of 'images', got none")
    return names


def _read_lines(path: Path) -> list[str]:
    """Lines of a text file; bytes that are no utf-8 stay as file names hold them."""
    content = path.read_bytes()
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return content.decode('utf-16').splitlines()
    return content.decode('utf-8-sig', errors='surrogateescape').splitlines()


def _missing_folder(folder: Path) -> str:
    parent = next(parent for parent in folder.absolute().parents if parent.is_dir())
    found = sorted(entry.name for entry in parent.iterdir())
    return (
        f'Expected a folder of images, got {folder}, which is no folder. {parent} holds '
        f'{len(found)} entries: {found[:10]}.'
    )
