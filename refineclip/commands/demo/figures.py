"""The pictures of the demo's report: images of ``val``, rows of the first seed."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from refineclip.visualization import (
    affinity_figure,
    metric_figure,
    name_pixels,
    pca_figure,
    refining_curve_figure,
    segmentation_figure,
    to_picture,
    tsne_figure,
)

from .claims import FROZEN, R_SC_RLA, REFINER, RLA, SC_RLA
from .measures import Setting, build_row, evaluation, vocabulary
from .runs import RUNS, run_checkpoint, run_folder

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from refineclip.datasets.coco_panoptic import PanopticImage
    from refineclip.evaluation.panoptic_evaluation import PanopticEvaluation

NUM_FIRST, NUM_IMAGES, NUM_OBJECT_IMAGES = 2, 4, 120
DIFFERENCES = {
    'boxes_class_top1': 'boxes',
    'masks_class_top1': 'masks',
    'auc': 'auc',
    'imk': 'imk',
    'gk': 'gk',
    'knn': 'knn',
    'ridge': 'ridge',
}
Chapter = tuple[str, 'Figure | Path', str]


def make_figures(
    args: argparse.Namespace,
    setting: Setting,
    differences: Mapping[str, Mapping[str, tuple[float, float, float]]],
    curve: Any,
) -> Iterator[Chapter]:
    """Draw the first picture of the report, then every chapter.

    Args:
        args: Command line.
        setting: What all rows share.
        differences: Row -> measure -> difference to the frozen CLIP, and its interval.
        curve: The refining curve.

    Yields:
        Title, figure and alternative text.
    """
    yield from _maps(args, setting)
    shown = {
        row: {key: own[key] for key in DIFFERENCES if key in own}
        for row, own in differences.items()
    }
    caption = (
        'Difference to the frozen CLIP, with 95 % intervals. Every panel has its own range; the '
        'frozen CLIP is at 0.'
    )
    yield (
        'Against the frozen CLIP',
        metric_figure(shown, DIFFERENCES, caption),
        'Differences of all rows to the frozen CLIP in seven measures.',
    )
    titles = {'gk': 'k-means over images, mIoU', 'knn': 'k-NN of tokens'}
    yield (
        'Refining without training',
        refining_curve_figure(curve, titles),
        'Two measures over the number of contexts, by how similar the contexts are.',
    )
    strip = run_folder(args, 'refiner', args.seeds[0]) / 'feature_strip' / 'strip.png'
    yield 'How the Refiner learns', strip, 'PCA maps of three images while the Refiner trains.'


def _maps(args: argparse.Namespace, setting: Setting) -> Iterator[Chapter]:
    """Draw what needs the encoders."""
    specs = {FROZEN: args.pretrained}
    for row in (REFINER, RLA, SC_RLA, R_SC_RLA):
        specs[row] = str(run_checkpoint(args, RUNS[row], args.seeds[0]))
    encoders = {row: build_row(setting, spec) for row, spec in specs.items()}
    data = evaluation(setting, NUM_OBJECT_IMAGES)
    images = [data.dataset[index] for index in range(NUM_IMAGES)]
    pictures = [to_picture(_read(image)) for image in images]
    batch = [data.item(index).images for index in range(NUM_IMAGES)]
    with torch.inference_mode():
        maps = {row: [one.dense(x) for x in batch] for row, one in encoders.items()}
    names = ', '.join(encoders)
    first = {row: own[:NUM_FIRST] for row, own in maps.items()}
    yield 'First', pca_figure(pictures[:NUM_FIRST], first), f'Maps of {names} beside two images.'
    yield 'PCA maps', pca_figure(pictures, maps), f'Maps of {names} as colours beside the images.'
    points = [_centre(image) for image in images]
    yield (
        'Affinity to one token',
        affinity_figure(pictures, maps, points),
        f'Cosine of all tokens to one token on an object, for {names}.',
    )
    features = data.region_features(encoders, crops=False)
    labels = torch.cat([one.labels for one in data.labels()]).numpy()
    yield (
        'Objects',
        tsne_figure({row: own.masks for row, own in features.items()}, labels, data.classes),
        f'Objects of the frequent classes in the plane, for {names}.',
    )
    text = vocabulary(setting, data.classes)
    painted = {'truth': [_truth(image, data) for image in images]}
    for row, own in maps.items():
        painted[row] = [
            name_pixels(one, text, (image.height, image.width))
            for one, image in zip(own, images, strict=True)
        ]
    yield (
        'Segmentation by words',
        segmentation_figure(pictures, painted, data.classes),
        f'Images painted by the most similar class name, for {names}.',
    )


def _read(image: PanopticImage) -> Any:
    from refineclip.datasets.image_io import read_image

    return read_image(image.img_path)


def _centre(image: PanopticImage) -> tuple[float, float]:
    """A point on the largest object: the pixel of its mask nearest to the mask's centre."""
    thing = max((s for s in image.segments if s.is_thing), key=lambda segment: segment.area)
    rows, columns = np.nonzero(image.read_ids() == thing.id)
    nearest = np.argmin((rows - rows.mean()) ** 2 + (columns - columns.mean()) ** 2)
    return (columns[nearest] + 0.5) / image.width, (rows[nearest] + 0.5) / image.height


def _truth(image: PanopticImage, data: PanopticEvaluation) -> NDArray[np.int64]:
    """Index into the vocabulary of every pixel; -1 where a kind has no name."""
    index = {name: position for position, name in enumerate(data.classes)}
    ids, labels = image.read_ids(), np.full((image.height, image.width), -1, dtype=np.int64)
    for segment in image.segments:
        labels[ids == segment.id] = index.get(data.dataset.classes[segment.category], -1)
    return labels
