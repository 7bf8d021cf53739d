"""What ``python -m refineclip draw`` draws, from its command line."""

from __future__ import annotations

import argparse
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from .evaluate.common import parse_rows, progress
from .evaluate.panoptic import Prepared

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor

    from refineclip.datasets.image_io import BadImageError
    from refineclip.evaluation.panoptic_evaluation import PanopticEvaluation
    from refineclip.visualization.pictures import Picture
    from refineclip.visualization.report import Block

MEASURES = {
    'auc': 'affinity AUC',
    'imk': 'k-means within images, mIoU',
    'gk': 'k-means over images, mIoU',
    'knn': 'k-NN accuracy of tokens',
    'ridge': 'linear probe accuracy of tokens',
}


class Drawing:
    """Encoders and input of a command line, read when the first figure asks for them.

    Args:
        args: Parsed and checked command line of ``draw``.

    Raises:
        ValueError: If rows, sizes or data do not fit.
        FileNotFoundError: If a file is missing.
    """

    def __init__(self, args: argparse.Namespace) -> None:
        from refineclip.visualization import find_images

        self.args = args
        if unknown := [name for name in args.measures if name not in MEASURES]:
            raise ValueError(f'--measures: expected some of {list(MEASURES)}, got {unknown}')
        self.files: list[Path] = find_images(args.images) if args.images else []
        self.bad_images: list[BadImageError] = []
        self.prepared = None if args.data is None else Prepared(args)

    @cached_property
    def encoders(self) -> dict[str, Any]:
        """Row name -> encoder."""
        from refineclip.evaluation.encoders import load_encoders

        if self.prepared is not None:
            return self.prepared.encoders
        return load_encoders(
            parse_rows(self.args.models, None),
            self.args.model,
            dense_mode=self.args.dense_mode,
            refiner_input=self.args.refiner_input,
            seed=self.args.seed,
            device=self.args.device,
            position_interpolation=self.args.position_interpolation,
        )

    @property
    def patch_size(self) -> int:
        """Side of a token in pixels."""
        first = next(iter(self.encoders.values()))
        return int(getattr(first, 'visual', first).patch_size)

    @property
    def image_size(self) -> int:
        """Side of images in pixels."""
        visuals = [e.visual for e in self.encoders.values() if hasattr(e, 'visual')]
        native = visuals[0].native_size[0] if visuals else 14 * self.patch_size
        return int(self.args.image_size or native)

    @cached_property
    def pictures(self) -> list[Picture]:
        """The first images that can be read, resized to whole patches.

        Raises:
            ValueError: If none can be read.
        """
        from refineclip.datasets.image_io import BadImageError
        from refineclip.visualization import fit_picture

        read: dict[Path, Picture] = {}
        for file in self.files:
            try:
                read[file] = fit_picture(file, self.image_size, self.patch_size)
            except BadImageError as error:
                self.bad_images.append(error)
            if len(read) == self.args.num_images:
                break
        if not read:
            raise ValueError(
                f'--images: expected images that can be read, got {len(self.files)} of which none '
                f'can; the first: {self.bad_images[0]}'
            )
        self.files = list(read)
        return list(read.values())

    @cached_property
    def maps(self) -> dict[str, list[Tensor]]:
        """Dense maps of the pictures."""
        from refineclip.visualization import encode_pictures

        pictures = self.pictures
        return encode_pictures(self.encoders, pictures, self.args.device, self.files)

    @cached_property
    def evaluation(self) -> PanopticEvaluation:
        """The labelled images."""
        from refineclip.evaluation import OURS

        assert self.prepared is not None, 'the command line was checked'
        # Every region has a token: a point without one would be drawn at the origin.
        return self.prepared.evaluation(self.prepared.preprocessor(self.image_size), rules=OURS)

    def pca(self) -> Figure:
        """Draw PCA maps."""
        from refineclip.visualization import pca_figure

        return pca_figure(self.pictures, self.maps, shared=not self.args.own_scale)

    def affinity(self) -> Figure:
        """Draw the affinity to a token."""
        from refineclip.visualization import affinity_figure

        args = self.args
        return affinity_figure(
            self.pictures,
            self.maps,
            tuple(args.token),
            shared_range=not args.own_scale,
            source=None if args.token_of is None else args.token_of - 1,
        )

    def segmentation(self) -> Figure:
        """Draw what the texts name."""
        from refineclip.datasets.vocabularies import parse_texts, title_of
        from refineclip.encoders.text.queries import make_queries
        from refineclip.encoders.text.text_bank import TextBank
        from refineclip.encoders.text.text_head import TextHead
        from refineclip.visualization import name_pixels, naming_caption, segmentation_figure

        args, names = self.args, parse_texts(self.args.texts)
        # Nobody's own words are names of a data set.
        queries = make_queries(names, args.synonyms, readable=False)
        texts = TextBank(
            queries.texts,
            args.model,
            None if args.text_embeddings else text_weights(args),
            templates=args.templates,
            text_embeddings=args.text_embeddings,
        )
        head = None if args.text_head is None else TextHead.load(args.text_head)
        labels = {
            name: [
                name_pixels(
                    one, texts.embeddings, picture.shape[:2], head, queries.owner, args.prob_thd
                )
                for one, picture in zip(own, self.pictures, strict=True)
            ]
            for name, own in self.maps.items()
            if hasattr(self.encoders[name], 'visual')  # mean colours have no text space
        }
        caption = naming_caption(len(names), args.prob_thd)
        titles = [title_of(name) for name in names]
        return segmentation_figure(self.pictures, labels, titles, caption)

    def tsne(self) -> Figure:
        """Draw labelled objects in the plane."""
        from refineclip.visualization import tsne_figure

        features = self.evaluation.region_features(self.encoders, crops=False)
        pooled = {name: getattr(own, self.args.pooling) for name, own in features.items()}
        labels = torch.cat([one.labels for one in self.evaluation.labels()]).numpy()
        return tsne_figure(pooled, labels, self.evaluation.classes, seed=self.args.seed)

    def curve(self) -> Figure:
        """Draw training-free refining of the first model."""
        from refineclip.visualization import refining_curve, refining_curve_figure

        name, encoder = next(iter(self.encoders.items()))
        evaluation, measures = self.evaluation, self.args.measures

        def score(maps: list[Tensor]) -> dict[str, float]:
            found = evaluation.spatial_scores(maps, measures)
            return {key: one.value for key, one in found.items()}

        images = torch.cat([item.images for item in evaluation.items()])
        curve = refining_curve(
            encoder,
            images,
            score,
            self.args.counts,
            num_draws=self.args.draws,
            seed=self.args.seed,
            track=progress('contexts and draws'),
        )
        return refining_curve_figure(curve, {key: f'{MEASURES[key]}, {name}' for key in measures})

    def report(self) -> Path:
        """Write all figures that the input allows; returns the path of the html file."""
        from refineclip.visualization.report import Figure as Picture
        from refineclip.visualization.report import Paragraph, Section, Table, write_report

        rows = list(parse_rows(self.args.models, None).items())
        table = Table(('row', 'weights'), rows, 'The rows', 'll')
        settings = (
            f'Architecture {self.args.model}, dense mode {self.args.dense_mode}, images of '
            f'{self.image_size} px, seed {self.args.seed}.'
        )
        if self.prepared is not None:
            settings += (
                f' Labelled images: {len(self.prepared.dataset)} of {self.args.data.name}, split '
                f'{self.args.split}, squashed to squares.'
            )
        sections = [Section('What is compared', [Paragraph(settings), table])]
        for title, kind, alt in self._chapters():
            blocks: list[Block] = [Picture(getattr(self, kind)(), alt)]
            sections.append(Section(title, blocks))
        return write_report(self.args.out, f'Dense maps of {self.args.model}', sections)

    def _chapters(self) -> list[tuple[str, str, str]]:
        """Title, method and alternative text of every figure that the input allows."""
        names = ', '.join(self.encoders)
        chapters = []
        if self.files:
            x, y = self.args.token
            chapters += [
                ('PCA maps', 'pca', f'Maps of {names} as colours beside the images.'),
                (
                    'Affinity to one token',
                    'affinity',
                    f'Cosine of all tokens to the one at {x:g}, {y:g}, for {names}.',
                ),
            ]
            if self.args.texts is not None:
                alt = f'Images painted by the words {self.args.texts}, for {names}.'
                chapters.append(('Segmentation by words', 'segmentation', alt))
        if self.prepared is not None:
            chapters += [
                ('Objects', 'tsne', f'Objects of the frequent classes in the plane, for {names}.'),
                (
                    'Training-free refining',
                    'curve',
                    'Measures over the number of contexts, by how similar the contexts are.',
                ),
            ]
        return chapters


def text_weights(args: argparse.Namespace) -> str | None:
    """Weights of the text tower that a command line names.

    Returns:
        A tag or file; None where the model's name brings them.

    Raises:
        ValueError: If there are none.
    """
    from refineclip.encoders.sources import HF_HUB, LOCAL_DIR

    from .evaluate.regions import library_weights

    pretrained = args.text_pretrained or library_weights(parse_rows(args.models, None))
    if pretrained is None and not args.model.startswith((LOCAL_DIR, HF_HUB)):
        raise ValueError(
            f'expected weights for the text tower of {args.model}, got none, and random text names '
            'nothing; name a tag or file of the original model (--text-pretrained), or give '
            '--text-embeddings (and --text-head)'
        )
    return pretrained
