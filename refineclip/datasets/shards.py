"""Images in a few large files, for storage that many small ones make slow."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from mmengine.registry import DATASETS
from PIL import Image

from refineclip.datasets.image_folder import list_images, listed_images
from refineclip.datasets.image_io import decode_image
from refineclip.datasets.packed import PackedNames
from refineclip.datasets.region_images import RegionImages

INDEX = 'shards.json'  # size of every file, written last
_AT_ONCE = 64  # images held while shards are written


class MissingLibraryError(ImportError):
    """The library that reads and writes shards is not installed."""


@DATASETS.register_module()
class RegionImageShards(RegionImages):
    """:class:`RegionImages` of a folder that ``python -m refineclip shard`` has written.

    Arrow files of the library ``datasets``, mapped into memory and read by index. So order, regions
    and what a resume sees are those of :class:`RegionImageFolder` on the same images.

    Args:
        data_root: Folder of shards.
        region_sampler: Config of a registered region sampler, or the sampler itself.
        min_size: Least width and height in pixels; give at least the patch size.
        limit: Use the first ``limit`` images only.
        seed: Seed of the region draws.
        fixed_regions: Draw the same regions in every epoch, as feature caches need.

    Raises:
        MissingLibraryError: ``datasets`` is not installed.
        FileNotFoundError: There is no such folder, or a shard of it is missing.
        ValueError: A shard ends early, or holds something else.
    """

    def __init__(
        self,
        data_root: str,
        region_sampler: dict[str, Any] | Any,
        min_size: int = 32,
        limit: int | None = None,
        seed: int = 0,
        fixed_regions: bool = False,
    ) -> None:
        self.min_size = min_size
        self.images = open_shards(Path(data_root))
        if limit is not None and limit < 1:
            raise ValueError(f'limit: expected an integer >= 1 or None, got {limit}.')
        names = self.images.data.column('name').slice(0, limit)
        super().__init__(
            data_root,
            PackedNames(_text(name) for part in names.chunks for name in part.to_pylist()),
            region_sampler,
            seed,
            fixed_regions,
        )

    def read(self, index: int) -> Image.Image:
        """Read image ``index``."""
        content = self.images[index]['image']
        return decode_image(content, self.path(index), self.min_size)


def open_shards(folder: Path) -> Any:
    """Map the shards of a folder into memory, after a look at their sizes.

    Returns:
        A ``datasets.Dataset`` of ``name`` and ``image``, both bytes.

    Raises:
        MissingLibraryError: ``datasets`` is not installed.
        FileNotFoundError: There is no such folder, or a shard of it is missing.
        ValueError: A shard ends early, or holds something else.
    """
    _require_library()
    index = folder / INDEX
    if not index.is_file():
        raise FileNotFoundError(
            f'expected a folder of shards as `python -m refineclip shard` writes it, got {folder} '
            f'without {INDEX}'
        )
    again = 'copy it again, or write the shards again with `python -m refineclip shard`'
    sizes: dict[str, int] = json.loads(index.read_text(encoding='utf-8'))
    for name, size in sizes.items():
        path = folder / name
        if not path.is_file():
            raise FileNotFoundError(
                f'expected the {len(sizes)} files that {index} lists, got no {path}; {again}'
            )
        if path.stat().st_size != size:
            what = 'ends early' if path.stat().st_size < size else 'is longer'
            raise ValueError(
                f'{path} {what}: expected {size} bytes, got {path.stat().st_size}; {again}'
            )
    from datasets import load_from_disk

    try:
        return load_from_disk(str(folder))
    except Exception as error:  # of pyarrow, by what is damaged
        raise ValueError(f'{folder}: expected shards, got {error}; {again}') from error


def write_shards(
    folder: Path, out: Path, images_per_shard: int = 1000, ann_file: Path | None = None
) -> int:
    """Write the images of a folder, bytes as they are, into shards; whole or not at all.

    Args:
        folder: Images, found recursively and sorted by name.
        out: Folder to make.
        images_per_shard: At most so many images in a file.
        ann_file: Only the images that it lists, see :class:`RegionImageFolder`.

    Returns:
        Number of images.

    Raises:
        MissingLibraryError: ``datasets`` is not installed.
        FileExistsError: ``out`` exists.
        FileNotFoundError: A listed image does not exist.
        ValueError: There is no image.
    """
    _require_library()
    if out.exists():
        raise FileExistsError(f'--out: expected a folder to make, got {out}, which exists')
    names = list_images(folder) if ann_file is None else listed_images(folder, ann_file)
    from datasets import Dataset, Features, Value

    def contents() -> Iterator[dict[str, bytes]]:
        for name in names:
            content = (folder / name).read_bytes()
            yield dict(name=name.encode('utf-8', 'surrogateescape'), image=content)

    unfinished = out.with_name(f'.{out.name}.tmp')
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        images = Dataset.from_generator(
            contents,
            features=Features(name=Value('binary'), image=Value('binary')),
            cache_dir=str(unfinished / 'cache'),
            writer_batch_size=_AT_ONCE,
        )
        shards = unfinished / 'shards'
        images.save_to_disk(str(shards), num_shards=math.ceil(len(names) / images_per_shard))
        sizes = {path.name: path.stat().st_size for path in sorted(shards.iterdir())}
        (shards / INDEX).write_text(json.dumps(sizes, indent=1), encoding='utf-8')
        shards.replace(out)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return len(names)


def _text(name: bytes) -> str:
    return name.decode('utf-8', 'surrogateescape')


def _require_library() -> None:
    if find_spec('datasets') is None:
        raise MissingLibraryError(
            "shards need the library datasets, got none; pip install 'refineclip-mm[shards]'"
        )
