"""Features kept on disk between evaluations, named by everything that decides them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import save_file
from torch import Tensor

from refineclip.encoders.refiner_clip import RefinerCLIP
from refineclip.encoders.weights.weights_hash import weights_hash
from refineclip.encoders.weights.whole_files import read_cached, write_whole

from .encoders.references import ColourEncoder, TappedEncoder
from .encoders.shared_trunk import DenseEncoder, SharedTrunk
from .panoptic_evaluation import PanopticEvaluation
from .regions.pooling import RegionFeatures

# Rules that have no say in the features of regions.
OF_TEXTS = ('protocol', 'class_names', 'templates')


class FeatureStore:
    """Safetensors files (float32) in one folder, by encoder, images and settings.

    A file's name is a hash of its description, so that a store never answers for other weights,
    sizes, images or annotations; what is asked for is then not found.

    Args:
        folder: Folder of the files; None keeps nothing.
    """

    def __init__(self, folder: str | Path | None) -> None:
        self.folder = None if folder is None else Path(folder)
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)

    def maps(
        self, evaluation: PanopticEvaluation, encoders: Mapping[str, DenseEncoder]
    ) -> Iterator[dict[str, Tensor]]:
        """Dense maps (1, D, h, w) by encoder, image by image; what is not stored is computed.

        A file an image and encoder: a call that was stopped goes on, and one of other images finds
        those that it shares.
        """
        description = dict(kind='map', preprocessing=evaluation.preprocessor.description)
        folders = {name: self._path(encoder, description) for name, encoder in encoders.items()}
        for folder in filter(None, folders.values()):
            folder.mkdir(exist_ok=True)
        trunks: dict[tuple[str, ...], SharedTrunk] = {}
        for index in evaluation.track(range(len(evaluation.dataset))):
            file = f'{_digest(_describe_file(evaluation.dataset[index].img_path))}.safetensors'
            paths = {n: None if folder is None else folder / file for n, folder in folders.items()}
            stored = {name: _read(path, ('map',)) for name, path in paths.items()}
            missing = tuple(name for name, found in stored.items() if found is None)
            fresh: dict[str, Tensor] = {}
            if missing:
                if missing not in trunks:
                    trunks[missing] = SharedTrunk({name: encoders[name] for name in missing})
                fresh = evaluation.maps_of_image(index, evaluation.item(index), trunks[missing])
            for name, one in fresh.items():
                self._save(paths[name], {'map': one})
            yield {
                name: fresh[name] if found is None else found['map']
                for name, found in stored.items()
            }

    def regions(
        self, evaluation: PanopticEvaluation, encoders: Mapping[str, DenseEncoder], crops: bool
    ) -> dict[str, RegionFeatures]:
        """Region features by encoder, computed in one pass for those that are not stored."""
        description = dict(
            kind='regions',
            images=describe_images(evaluation),
            segments=_digest([image.segments for image in evaluation.dataset]),
            rules={k: v for k, v in vars(evaluation.rules).items() if k not in OF_TEXTS},
            classes=evaluation.classes,
            crops=crops,
        )
        paths = {
            name: self._path(encoder, description, '.safetensors')
            for name, encoder in encoders.items()
        }
        names = ('boxes', 'masks', 'crops') if crops else ('boxes', 'masks')
        stored = {name: _read(path, names) for name, path in paths.items()}
        missing = {n: e for n, e in encoders.items() if stored[n] is None}
        fresh = evaluation.region_features(missing, crops) if missing else {}
        for name, features in fresh.items():
            self._save(paths[name], dict(features.items()))
        return {
            name: fresh[name] if found is None else RegionFeatures(**found)
            for name, found in stored.items()
        }

    def _path(
        self, encoder: DenseEncoder, description: Mapping[str, Any], suffix: str = ''
    ) -> Path | None:
        own = describe_encoder(encoder)
        if self.folder is None or own is None:
            return None
        return self.folder / f'{_digest([own, description])}{suffix}'

    @staticmethod
    def _save(path: Path | None, tensors: Mapping[str, Tensor]) -> None:
        if path is None:
            return
        floats = {name: value.float().contiguous() for name, value in tensors.items()}
        write_whole(path, lambda temporary: save_file(floats, temporary))


def describe_encoder(encoder: DenseEncoder) -> dict[str, Any] | None:
    """What decides the features of an encoder, JSON-like; None for a class that is not known."""
    if isinstance(encoder, RefinerCLIP):
        refiner = encoder.refiner and encoder.refiner.input
        return dict(weights=weights_hash(encoder), mode=encoder.dense_mode, refiner=refiner)
    if isinstance(encoder, TappedEncoder):
        return dict(weights=weights_hash(encoder.visual), block=encoder.block)
    if isinstance(encoder, ColourEncoder):
        return dict(colour=encoder.patch_size)
    return None


def describe_images(evaluation: PanopticEvaluation) -> dict[str, Any]:
    """What decides the pixels that an encoder sees, JSON-like."""
    files = [_describe_file(image.img_path) for image in evaluation.dataset]
    return dict(files=_digest(files), preprocessing=evaluation.preprocessor.description)


def _describe_file(path: Path) -> list[Any]:
    stat = path.stat()
    return [str(path.resolve()), stat.st_size, stat.st_mtime_ns]


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()


def _read(path: Path | None, names: Collection[str]) -> dict[str, Tensor] | None:
    return None if path is None else read_cached(path, names)
