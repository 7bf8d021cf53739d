"""Disk cache of what the frozen teacher says about an image and its regions."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from .region_batch import RegionBatch


class FeatureCache:
    """One safetensors file (float16) per image and set of boxes, in a folder per teacher.

    The folder's name is a hash of ``version`` (weights, sizes, modes: whatever changes the
    features), a file's name one of the image path and the exact boxes. So a cache can never answer
    for another teacher, sampler or seed; it is simply not found. It pays only where boxes repeat
    between epochs (``fixed_regions=True``).

    Args:
        root: Folder of caches.
        version: JSON-like description of the teacher, written to ``version.json``.
        per_region: Names of the features with one row per region; the rest have one per image.
    """

    def __init__(self, root: str, version: Mapping, per_region: tuple[str, ...]) -> None:
        text = json.dumps(version, sort_keys=True, default=str)
        self.folder = Path(root) / hashlib.sha256(text.encode()).hexdigest()[:16]
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / 'version.json').write_text(text)
        self.per_region = per_region

    def path(self, img_path: str, boxes: Tensor) -> Path:
        """File of one image with these boxes (R, 4)."""
        digest = hashlib.sha1(os.fspath(img_path).encode())
        if Path(img_path).exists():  # another picture under the same name is another key
            stat = Path(img_path).stat()
            digest.update(f'{stat.st_size} {stat.st_mtime_ns}'.encode())
        digest.update(boxes.cpu().float().contiguous().numpy().tobytes())
        return self.folder / f'{digest.hexdigest()}.safetensors'

    def fetch(
        self, batch: RegionBatch, compute: Callable[[RegionBatch], dict[str, Tensor]]
    ) -> dict[str, Tensor]:
        """Features of a batch, computed only for the images that are not cached.

        Args:
            batch: The batch.
            compute: Maps a (sub-)batch to features; first dimension R for the names in
                ``per_region``, B for the rest.

        Returns:
            Features of the whole batch, in its order, on its device, float32.
        """
        owner = batch.boxes[:, 0].long()
        boxes = [batch.regions[owner == i] for i in range(len(batch.images))]
        paths = [self.path(p, b) for p, b in zip(batch.img_paths, boxes, strict=True)]
        missing = [i for i, path in enumerate(paths) if not path.exists()]
        if missing:
            self._store(batch, missing, paths, compute)
        stored = [load_file(path, device=str(batch.images.device)) for path in paths]
        return {
            name: (torch.cat if name in self.per_region else torch.stack)(
                [one[name] for one in stored]
            ).float()
            for name in stored[0]
        }

    def _store(
        self,
        batch: RegionBatch,
        missing: list[int],
        paths: list[Path],
        compute: Callable[[RegionBatch], dict[str, Tensor]],
    ) -> None:
        part = batch.select(missing)
        owner = part.boxes[:, 0].long()
        features = compute(part)
        for position, image in enumerate(missing):
            tensors = {
                name: (value[owner == position] if name in self.per_region else value[position])
                .half()
                .contiguous()
                for name, value in features.items()
            }
            overflown = [name for name, value in tensors.items() if not value.isfinite().all()]
            if overflown:
                raise ValueError(
                    f'expected features of {part.img_paths[position]} within the range of float16, '
                    f'got larger {overflown}; train without cache_dir'
                )
            temporary = paths[image].with_suffix(f'.{os.getpid()}.tmp')
            save_file(tensors, temporary)
            temporary.replace(paths[image])
