"""Disk cache of one thing that the frozen teacher says about an image or its regions."""

from __future__ import annotations

import hashlib
import json
import logging
import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from mmengine.logging import print_log
from safetensors.torch import save_file
from torch import Tensor

from refineclip.encoders.weights.whole_files import read_cached, write_whole

from .region_batch import RegionBatch

_KEY = 'feature'
VERSION = 'version.json'


class FeatureCache:
    """One safetensors file (float16) per image, and per set of boxes where it is about regions.

    The folder's name is a hash of ``version`` (weights, sizes, modes: whatever changes the
    feature), a file's name one of the image file and, for regions, the exact boxes, which are what
    sampler, seed and epoch come to. So a cache never answers for another teacher, sampler or seed:
    it is left aside, a warning names what changed, and a new one is begun beside it.

    Features of images pay from the second epoch on. Features of regions pay when boxes come again:
    from the second epoch on with ``fixed_regions=True``, otherwise from the second run on, since
    the draw of an epoch is a function of seed, epoch and image.

    Args:
        root: Folder of caches.
        name: Name of the feature.
        version: JSON-like description of the teacher, written to ``version.json``.
        per_region: One row per region rather than one per image.
    """

    def __init__(self, root: str, name: str, version: Mapping, per_region: bool) -> None:
        # Through JSON and back, to compare with what is on disk: tuples become lists.
        described: dict = json.loads(json.dumps({_KEY: name, **version}, default=str))
        text = json.dumps(described, sort_keys=True)
        self.folder = Path(root) / hashlib.sha256(text.encode()).hexdigest()[:16]
        self.per_region = per_region
        if not self.folder.exists():
            _tell_what_changed(Path(root), described)
        self.folder.mkdir(parents=True, exist_ok=True)
        if not (self.folder / VERSION).exists():
            write_whole(self.folder / VERSION, lambda path: path.write_text(text))

    def path(self, img_path: str, boxes: Tensor) -> Path:
        """File of one image, with these boxes (R, 4) if the feature is about regions."""
        digest = hashlib.sha1(os.fsencode(img_path))  # a name may hold bytes that are no text
        if Path(img_path).exists():  # another picture under the same name is another key
            stat = Path(img_path).stat()
            digest.update(f'{stat.st_size} {stat.st_mtime_ns}'.encode())
        if self.per_region:
            digest.update(boxes.cpu().float().contiguous().numpy().tobytes())
        return self.folder / f'{digest.hexdigest()}.safetensors'

    def fetch(self, batch: RegionBatch, compute: Callable[[RegionBatch], Tensor]) -> Tensor:
        """Feature of a batch, computed only for the images that are not cached.

        Args:
            batch: The batch.
            compute: Maps a (sub-)batch to the feature; first dimension R or B.

        Returns:
            The feature of the whole batch, in its order, on its device, float32.
        """
        owner = batch.boxes[:, 0].long()
        boxes = [batch.regions[owner == i] for i in range(len(batch.images))]
        paths = [self.path(p, b) for p, b in zip(batch.img_paths, boxes, strict=True)]
        found = [read_cached(path, (_KEY,)) for path in paths]
        rows: list[Any] = [None if one is None else one[_KEY] for one in found]
        missing = [i for i, row in enumerate(rows) if row is None]
        if missing:
            for i, row in zip(missing, self._store(batch, missing, paths, compute), strict=True):
                rows[i] = row
        # Through float16 also where it was not read: a run does not depend on what was there.
        stored = [row.to(batch.images.device).float() for row in rows]
        return torch.cat(stored) if self.per_region else torch.stack(stored)

    def _store(
        self,
        batch: RegionBatch,
        missing: list[int],
        paths: list[Path],
        compute: Callable[[RegionBatch], Tensor],
    ) -> list[Tensor]:
        """Compute and write the feature of some images; returns it in float16."""
        part = batch.select(missing)
        owner = part.boxes[:, 0].long()
        feature = compute(part)
        halves = []
        for position, image in enumerate(missing):
            own = feature[owner == position] if self.per_region else feature[position]
            half = own.half().contiguous()
            if not half.isfinite().all():
                raise ValueError(
                    f'expected features of {part.img_paths[position]} within the range of float16, '
                    'got larger ones; train without cache_dir'
                )
            write_whole(paths[image], partial(save_file, {_KEY: half}))
            halves.append(half)
        return halves


def _tell_what_changed(root: Path, version: dict) -> None:
    """Warn when a cache of the same feature exists that this run cannot use, and say why."""
    found = list(filter(None, map(_read_version, sorted(root.glob(f'*/{VERSION}')))))
    differences = [
        [key for key in {*version, *other} if version.get(key) != other.get(key)]
        for other in found
        if other.get(_KEY) == version[_KEY]
    ]
    if differences:
        nearest = min((sorted(keys) for keys in differences), key=len)
        print_log(
            f'cache_dir {root}: {len(differences)} cache(s) of {version[_KEY]!r} are of another '
            f'teacher and stay unused; the nearest differs in {nearest}. Computing anew.',
            logger='current',
            level=logging.WARNING,
        )


def _read_version(path: Path) -> dict | None:
    """Read what a cache is of; nobody knows of one whose description is broken."""
    try:
        version = json.loads(path.read_text())
    except ValueError:
        return None
    return version if isinstance(version, dict) else None
