"""Rows of ``evaluate image``: image towers, the text tower they share, and both measures."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .common import progress

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

    from refineclip.datasets.class_folders import ClassFolders
    from refineclip.datasets.coco_captions import CocoCaptions
    from refineclip.encoders.dense_clip import DenseCLIP
    from refineclip.evaluation import ImageScores
    from refineclip.evaluation.image_level.embeddings import ImageEmbeddings, ImageTransform

# Texts are embedded, and those of names cached, in pieces, so that progress shows.
_NAMES, _CAPTIONS = 64, 256


class ImageGuard:
    """Encoders, their text tower and the way photos are shown to them.

    Args:
        args: Parsed command line.
        rows: Name -> where the weights are.

    Raises:
        ValueError: If rows, text tower or sizes do not fit.
        FileNotFoundError: If a file is missing.
    """

    def __init__(self, args: argparse.Namespace, rows: Mapping[str, str]) -> None:
        from refineclip.encoders import build_clip
        from refineclip.evaluation.encoders import load_encoders
        from refineclip.evaluation.image_level.embeddings import library_transform

        self.args, self.rows = args, rows
        self.text_pretrained = text_weights(args.text_pretrained, args.model, rows)
        self.encoders = load_encoders(
            rows,
            args.model,
            dense_mode=args.dense_mode,
            refiner_input=args.refiner_input,
            seed=args.seed,
            device=args.device,
            position_interpolation=args.position_interpolation,
        )
        self.clip: DenseCLIP = build_clip(args.model, self.text_pretrained).eval()
        self._check_text_space()
        self.transform: ImageTransform = library_transform(
            next(iter(self.encoders.values())).visual,
            args.model,
            self.text_pretrained,
            args.image_size,
            args.resize_mode,
            args.interpolation,
        )
        self.clip.text.to(args.device)  # type: ignore[union-attr]  # build_clip built it

    def _check_text_space(self) -> None:
        for name, encoder in self.encoders.items():
            visual = getattr(encoder, 'visual', None)
            if visual is None:
                raise ValueError(
                    f'--models: expected rows with a text space, got {name!r} (mean colours); it '
                    'is a row of evaluate spatial'
                )
            if visual.embed_dim != self.clip.visual.embed_dim:
                raise ValueError(
                    f'expected a text tower of the width of the rows, {visual.embed_dim}, got '
                    f'{self.clip.visual.embed_dim}; take that of the same model '
                    '(--text-pretrained)'
                )

    def embed(self, paths: list[Path]) -> ImageEmbeddings:
        """Embed image files with every row."""
        from refineclip.evaluation.image_level.embeddings import embed_images

        embedded = embed_images(
            self.encoders,
            paths,
            self.transform,
            self.args.batch_size,
            self.args.num_workers,
            self.args.device,
            progress(f'{len(paths)} images, batches of {self.args.batch_size}'),
            self.args.cache_dir,
        )
        if self.args.compare is not None and len(embedded.kept) < 2:
            raise ValueError(
                f'--compare: expected two or more images to resample, got {len(embedded.kept)}'
            )
        return embedded

    def classify(
        self, folders: ClassFolders
    ) -> tuple[dict[str, dict[str, ImageScores]], dict[str, Any]]:
        """Classify images by class names: scores by row, and facts for the json."""
        from refineclip.evaluation.image_level.zero_shot import zero_shot_accuracy

        text = self._embed_names(folders.names)
        embedded = self.embed(folders.paths)
        labels = folders.labels[embedded.kept]
        results = {
            name: zero_shot_accuracy(features, labels, text)
            for name, features in embedded.features.items()
        }
        facts = {
            **_facts(embedded, folders.paths),
            'data': str(folders.root),
            'class_names_from': folders.names_from,
            'templates': self.args.templates,
            'classes': dict(zip(folders.folders, folders.names, strict=True)),
            'per_class': {
                name: {key: _plain(value) for key, value in one.per_class.items()}
                for name, one in results.items()
            },
        }
        return {name: one.scores for name, one in results.items()}, facts

    def _embed_names(self, names: list[str]) -> Tensor:
        from refineclip.encoders.text.embedder import TextEmbedder

        embedder = TextEmbedder(self.clip, self.args.templates, self.args.cache_dir)
        return _in_pieces(names, _NAMES, embedder.embed, 'class names')

    def retrieve(
        self, captions: CocoCaptions
    ) -> tuple[dict[str, dict[str, ImageScores]], dict[str, Any]]:
        """Retrieve captions and images: scores by row, and facts for the json."""
        from refineclip.evaluation.image_level.retrieval import embed_captions, retrieval_recall

        text = _in_pieces(
            captions.captions, _CAPTIONS, partial(embed_captions, self.clip), 'captions'
        )
        embedded = self.embed(captions.paths)
        chosen, owner = captions.select(embedded.kept)
        words = [captions.captions[row] for row in chosen]
        scores = {
            name: retrieval_recall(features, text[chosen], owner, words)
            for name, features in embedded.features.items()
        }
        facts = {
            **_facts(embedded, captions.paths),
            'captions': str(captions.ann_file),
            'image_root': str(captions.image_root),
            'num_captions': len(owner),
            'num_different_captions': len(set(words)),
            'captions_per_image': self.args.captions_per_image,
        }
        return scores, facts

    def settings(self) -> dict[str, Any]:
        """What decided the numbers of both parts, for the json."""
        return {
            'rows': dict(self.rows),
            'model': self.args.model,
            'text_pretrained': self.text_pretrained,
            'transform': asdict(self.transform),
            'seed': self.args.seed,
            'device': self.args.device,
            'batch_size': self.args.batch_size,
        }


def _in_pieces(
    texts: Sequence[str], size: int, embed: Callable[[Sequence[str]], Tensor], kind: str
) -> Tensor:
    """Embed texts ``size`` at a time; processes share them."""
    import torch

    from refineclip.evaluation.streams import ImageStream

    pieces = [texts[first : first + size] for first in range(0, len(texts), size)]
    stream = ImageStream(len(pieces), track=progress(f'{len(texts)} {kind}, {size} at a time'))
    for number in stream:
        stream.put(number, embed(pieces[number]))
    return torch.cat(stream.gather())


def text_weights(given: str | None, model: str, rows: Mapping[str, str]) -> str | None:
    """Weights of the text tower: as given, or of the first row that has any.

    Args:
        given: Value of ``--text-pretrained``.
        model: Value of ``--model``; a folder or a name of the hub brings its own.
        rows: Name -> where its weights are.

    Returns:
        A file, tag or folder; None where the model brings its own.

    Raises:
        ValueError: If there is none; random text would score rows at random.
    """
    from refineclip.encoders.sources import HF_HUB, LOCAL_DIR

    from .regions import library_weights

    if model.startswith('timm/'):
        raise ValueError(f'--model: expected a CLIP, got {model}, which has no text tower')
    if given is not None or model.startswith((LOCAL_DIR, HF_HUB)):
        return given
    found = library_weights(dict(rows))
    if found is not None:
        return found
    raise ValueError(
        'expected weights of a text tower, got rows that have none (refined checkpoints hold the '
        'image tower only); give --text-pretrained, a tag or file of the original model'
    )


def _facts(embedded: ImageEmbeddings, paths: list[Path]) -> dict[str, Any]:
    return {
        'num_images': len(embedded.kept),
        'num_files': len(paths),
        'skipped': dict(embedded.bad),
    }


def _plain(values: np.ndarray) -> list[float | None]:
    """Numbers for json; not-a-number becomes None."""
    return [None if value != value else float(value) for value in values]
