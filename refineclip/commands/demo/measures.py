"""What the demo measures of a row: regions, tokens and whole images of the microworld."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.registry import MODELS
from torch import Tensor, nn
from torch.nn import functional as F

import refineclip.distill  # noqa: F401  (registers the preprocessor)
from refineclip.datasets.coco_captions import CocoCaptions
from refineclip.datasets.coco_panoptic import CocoPanoptic
from refineclip.datasets.microworld import require_current
from refineclip.datasets.microworld.vocabulary import NAMES, PROMPTS, SCENES
from refineclip.distill.hooks.weight_ensemble_hook import blend_state
from refineclip.encoders.build import build_clip
from refineclip.encoders.text.embedder import TextEmbedder
from refineclip.encoders.towers.dense_vit import DenseViT
from refineclip.evaluation.bootstrap import ImageScores
from refineclip.evaluation.encoders import COLOUR, load_encoders
from refineclip.evaluation.image_level.retrieval import embed_captions, retrieval_recall
from refineclip.evaluation.panoptic_evaluation import PanopticEvaluation
from refineclip.evaluation.regions import OURS
from refineclip.evaluation.spatial.measures import dataset_kmeans_miou
from refineclip.evaluation.spatial.suite import MEASURES

from ..evaluate.common import quiet_logging
from .training import load_config

Scores = dict[str, ImageScores]
TILES = 'tiles'
VAL = 'val'
# k-means from one start moves by two points in the pilot.
NUM_STARTS, MAX_ITERATIONS = 12, 30


@dataclass(frozen=True)
class Setting:
    """What every row of a table shares.

    Architecture, dense mode and preprocessing are those of the configs.

    Attributes:
        root: Folder of the data set.
        pretrained: Weights of the frozen encoder; ``'shipped'`` for those of this package.
        num_starts: Starts of the k-means over all images.
        split: What is measured on.
    """

    root: Path
    pretrained: str = 'shipped'
    num_starts: int = NUM_STARTS
    split: str = VAL

    @property
    def stage(self) -> Any:
        """Config of the model of stage 2."""
        return load_config('rla', {}).model

    @property
    def model(self) -> str:
        """Name of the architecture."""
        return str(self.stage.student.model)

    @property
    def dense_mode(self) -> str:
        """What the last block does for dense maps."""
        return str(self.stage.student.get('dense_mode', 'value'))


class TiledEncoder(nn.Module):
    """The dense map of an image encoded tile by tile at the encoder's native size.

    A control: the encoder was trained at this size, so no position is interpolated; whatever a
    refined encoder gains over this is not a matter of resolution.

    Args:
        visual: The encoder.
        dense_mode: What the last block does.
    """

    def __init__(self, visual: DenseViT, dense_mode: str) -> None:
        super().__init__()
        self.visual, self.dense_mode = visual, dense_mode
        self.image_mean, self.image_std = visual.image_mean, visual.image_std

    def dense(self, images: Tensor) -> Tensor:
        """Map normalised images (B, 3, H, W) to (B, D, h, w).

        Raises:
            ValueError: If the size is no multiple of the native size.
        """
        height, width = self.visual.native_size
        if images.shape[-2] % height or images.shape[-1] % width:
            raise ValueError(
                f'expected images of whole tiles of {height} x {width} pixels, got '
                f'{tuple(images.shape[-2:])}'
            )
        rows = []
        for row in images.split(height, dim=2):
            maps = [self.visual.dense(tile, self.dense_mode) for tile in row.split(width, dim=3)]
            rows.append(torch.cat(maps, dim=3))
        return torch.cat(rows, dim=2)

    def image_embedding(self, images: Tensor) -> Tensor:
        """The image embedding (B, D) of the encoder."""
        return self.visual.image_embedding(images)


def build_row(setting: Setting, spec: str) -> Any:
    """Build an encoder from a spec of ``load_encoders``, or ``tiles``."""
    quiet_logging()
    tiled = spec == TILES
    spec = setting.pretrained if tiled else spec
    encoder = load_encoders({'row': spec}, setting.model, setting.dense_mode)['row']
    return TiledEncoder(encoder.visual, setting.dense_mode).eval() if tiled else encoder


@lru_cache(maxsize=1)
def evaluation(setting: Setting, limit: int | None = None) -> PanopticEvaluation:
    """The annotated images, read once per process; ``limit`` takes the first so many.

    Regions are classified among the named kinds and the backgrounds: a kind without a name has no
    text.
    """
    require_current(setting.root, setting.split)
    dataset = CocoPanoptic(setting.root, setting.split)
    dataset.images = dataset.images[:limit]
    preprocessor = MODELS.build(setting.stage.data_preprocessor)
    patch = build_row(setting, setting.pretrained).visual.patch_size
    return PanopticEvaluation(dataset, preprocessor, patch, rules=OURS, classes=(*NAMES, *SCENES))


@lru_cache(maxsize=1)
def vocabulary(setting: Setting, classes: tuple[str, ...]) -> Tensor:
    """Text embeddings (C, D) in the words of the captions: 'a fish', 'in a meadow'."""
    quiet_logging()
    clip = build_clip(setting.model, setting.pretrained).eval()
    return TextEmbedder(clip, ['{}']).embed([PROMPTS[name] for name in classes])


def measure_row(setting: Setting, spec: str, alpha: float = 1.0) -> Scores:
    """Measure one encoder.

    Args:
        setting: What all rows share.
        spec: See :func:`build_row`.
        alpha: Its share in a blend of its weights with the frozen ones.

    Returns:
        ``auc``, ``imk``, ``gk``, ``knn``, ``ridge``; for rows with a text space also what
        ``PanopticEvaluation.score_regions`` returns and the recalls of retrieval.
    """
    quiet_logging()
    encoder, data = build_row(setting, spec), evaluation(setting)
    if alpha < 1:
        frozen = build_row(setting, setting.pretrained)
        encoder.load_state_dict(blend_state(encoder.state_dict(), frozen.state_dict(), alpha))
    maps = data.maps(encoder)
    scores = spatial_scores(data, maps, setting.num_starts)
    return scores if spec == COLOUR else scores | text_scores(setting, encoder, data)


def text_scores(setting: Setting, encoder: Any, data: PanopticEvaluation) -> Scores:
    """Regions by class names, and whole images by captions."""
    text = vocabulary(setting, data.classes)
    features = data.region_features({'row': encoder})['row']
    return data.score_regions(features, text) | retrieval_scores(setting, encoder, data)


def spatial_scores(
    data: PanopticEvaluation,
    maps: Sequence[Tensor],
    num_starts: int,
    measures: Sequence[str] = MEASURES,
) -> Scores:
    """Score maps (1, D, h, w); ``gk`` from more starts than the suite's own."""
    others = [name for name in measures if name != 'gk']
    scores = data.spatial_scores(maps, others) if others else {}
    if 'gk' in measures:
        supers = data.dataset.class_to_super
        labels = [np.where(one.classes >= 0, supers[one.classes], -1) for one in data.labels()]
        tokens = [F.normalize(one[0].flatten(1).T.float(), dim=1) for one in maps]
        scores['gk'] = dataset_kmeans_miou(
            tokens,
            labels,
            int(supers.max()) + 1,
            num_inits=num_starts,
            max_iterations=MAX_ITERATIONS,
        )
    return scores


@torch.no_grad()
def retrieval_scores(setting: Setting, encoder: Any, data: PanopticEvaluation) -> Scores:
    """Recall between whole images, at the encoder's native size, and their captions."""
    root, split = setting.root, setting.split
    captions = CocoCaptions(root / 'annotations' / f'captions_{split}.json', root / split)
    clip = build_clip(setting.model, setting.pretrained)
    size = clip.visual.native_size
    images = torch.cat(
        [
            encoder.image_embedding(
                F.interpolate(item.images, size, mode='bicubic', antialias=True)
            ).cpu()
            for item in data.items()
        ]
    )
    text = embed_captions(clip, captions.captions)
    return retrieval_recall(images, text, captions.owner, captions.captions)


def context_scores(
    setting: Setting,
    num_images: int,
    counts: Sequence[int],
    num_draws: int,
    choices: Sequence[str],
    seed: int = 0,
) -> tuple[Any, dict[str, list[Scores]]]:
    """Measure training-free refining over the number of contexts, on the first images.

    Args:
        setting: What all rows share.
        num_images: How many images.
        counts: Numbers of contexts, ascending.
        num_draws: Repetitions with other contexts.
        choices: See :func:`~refineclip.visualization.refining_curve`; random contexts come first.
        seed: Seed of the first draw.

    Returns:
        The :class:`~refineclip.visualization.RefiningCurve`, and rows for the claims: no context,
        one, and the most, of each draw of random contexts.
    """
    from refineclip.visualization import refining_curve

    from .claims import ALONE, MANY_CONTEXTS, ONE_CONTEXT

    quiet_logging()
    data = evaluation(setting, num_images)
    images = torch.cat([item.images for item in data.items()])
    calls: list[Scores] = []

    def score(maps: list[Tensor]) -> dict[str, float]:
        calls.append(spatial_scores(data, maps, setting.num_starts, ('gk', 'knn')))
        return {name: one.value for name, one in calls[-1].items()}

    encoder = build_row(setting, setting.pretrained)
    curve = refining_curve(encoder, images, score, counts, choices, num_draws, seed)
    assert choices[0] == 'random', 'the claim is about random contexts'
    # Scored in this order: alone, then for each choice and draw all counts.
    assert len(calls) == 1 + len(choices) * num_draws * len(curve.counts)
    step = len(curve.counts)
    draws = [calls[1 + step * draw : 1 + step * (draw + 1)] for draw in range(num_draws)]
    rows = {
        ALONE: calls[:1],
        ONE_CONTEXT: [one[0] for one in draws],
        MANY_CONTEXTS: [one[-1] for one in draws],
    }
    return curve, rows
