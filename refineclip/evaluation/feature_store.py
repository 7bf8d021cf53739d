"""Features kept on disk between evaluations, named by everything that decides them."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
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
from .streams import describe_file, digest

# Rules that have no say in the features of regions.
OF_TEXTS = ('protocol', 'class_names', 'templates')

Tensors = Mapping[str, Tensor]
Compute = Callable[[int, SharedTrunk], Mapping[str, Tensors]]


class FeatureStore:
    """Safetensors files (float32) in one folder, one for each encoder, image and settings.

    A file's name is a hash of its description, so that a store never answers for other weights,
    sizes, images or annotations; what is asked for is then not found. A call that was stopped goes
    on, and one of other images finds those that it shares.

    Args:
        folder: Folder of the files; None keeps nothing.
    """

    def __init__(self, folder: str | Path | None) -> None:
        self.folder = None if folder is None else Path(folder)
        if self.folder is not None:
            self.folder.mkdir(parents=True, exist_ok=True)

    def maps(
        self, evaluation: PanopticEvaluation, encoders: Mapping[str, DenseEncoder]
    ) -> Callable[[int], dict[str, Tensor]]:
        """Return what gives the dense maps (1, D, h, w) of an image by encoder.

        What is not stored is computed.
        """

        def compute(index: int, trunks: SharedTrunk) -> Mapping[str, Tensors]:
            maps = evaluation.maps_of_image(index, evaluation.images_of(index), trunks)
            return {name: {'map': one} for name, one in maps.items()}

        def name_of(index: int) -> str:
            return digest(describe_file(evaluation.dataset[index].img_path))

        description = dict(kind='map', preprocessing=evaluation.preprocessor.description)
        kept = self._kept(encoders, description, ('map',), name_of, compute)
        return lambda index: {name: one['map'] for name, one in kept(index).items()}

    def regions(
        self, evaluation: PanopticEvaluation, encoders: Mapping[str, DenseEncoder], crops: bool
    ) -> Callable[[int], dict[str, RegionFeatures]]:
        """Return what gives the features of an image's regions by encoder.

        What is not stored is computed.
        """

        def compute(index: int, trunks: SharedTrunk) -> Mapping[str, Tensors]:
            found = evaluation.regions_of_item(index, evaluation.item(index, crops), trunks)
            return {name: dict(one.items()) for name, one in found.items()}

        def name_of(index: int) -> str:
            image = evaluation.dataset[index]
            files = [describe_file(path) for path in (image.img_path, image.label_path)]
            return digest([files, image.segments])

        description = dict(
            kind='regions',
            preprocessing=evaluation.preprocessor.description,
            rules={k: v for k, v in vars(evaluation.rules).items() if k not in OF_TEXTS},
            classes=evaluation.classes,
            crops=crops,
        )
        ways = ('boxes', 'masks', 'crops') if crops else ('boxes', 'masks')
        kept = self._kept(encoders, description, ways, name_of, compute)
        return lambda index: {name: RegionFeatures(**one) for name, one in kept(index).items()}

    def _kept(
        self,
        encoders: Mapping[str, DenseEncoder],
        description: Mapping[str, Any],
        keys: Collection[str],
        name_of: Callable[[int], str],
        compute: Compute,
    ) -> Callable[[int], dict[str, Tensors]]:
        """Return what reads the tensors of an image, or computes and keeps them."""
        folders = {name: self._folder(one, description) for name, one in encoders.items()}
        trunks: dict[tuple[str, ...], SharedTrunk] = {}

        def of_image(index: int) -> dict[str, Tensors]:
            file = f'{name_of(index)}.safetensors'
            paths = {n: None if folder is None else folder / file for n, folder in folders.items()}
            found: dict[str, Tensors] = {
                name: one
                for name, path in paths.items()
                if path is not None and (one := read_cached(path, keys)) is not None
            }
            missing = tuple(name for name in encoders if name not in found)
            if missing:
                if missing not in trunks:
                    trunks[missing] = SharedTrunk({name: encoders[name] for name in missing})
                fresh = compute(index, trunks[missing])
                for name in missing:
                    _save(paths[name], fresh[name])
                found.update(fresh)
            return {name: found[name] for name in encoders}

        return of_image

    def _folder(self, encoder: DenseEncoder, description: Mapping[str, Any]) -> Path | None:
        own = describe_encoder(encoder)
        if self.folder is None or own is None:
            return None
        folder = self.folder / digest([own, description])
        folder.mkdir(exist_ok=True)
        return folder


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


def _save(path: Path | None, tensors: Tensors) -> None:
    if path is None:
        return
    floats = {name: value.float().contiguous() for name, value in tensors.items()}
    write_whole(path, lambda temporary: save_file(floats, temporary))
