"""``evaluate spatial``: dense maps as they are, without any text."""

from __future__ import annotations

import argparse
import importlib.util
import os
import sys

from .common import (
    as_json,
    compare_rows,
    environment,
    progress,
    tables,
    write_json,
)
from .panoptic import Prepared, add_panoptic_arguments

EPILOG = """Measures (details in docs/evaluation.md), each in [0, 1], higher is better:
auc    affinity: cosine of two tokens, same segment against different segments; 0.5 is chance
imk    k-means within each image against its segments, mean IoU
gk     k-means over all images against supercategories, mean IoU
knn    class of a token by its 20 nearest tokens of other images
ridge  class of a token by a linear probe, cross-validated over images
"""

MEASURES = ('auc', 'imk', 'gk', 'knn', 'ridge')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``evaluate spatial``."""
    add_panoptic_arguments(parser, 'squash', 'default: what the tower was trained with')
    parser.add_argument(
        '--measures', nargs='+', choices=MEASURES, default=MEASURES, help='default: all five'
    )


def run(args: argparse.Namespace) -> int:
    """Measure every row and print the table."""
    if importlib.util.find_spec('sklearn') is None:
        raise ValueError(
            'expected scikit-learn for these measures, got none; pip install "scikit-learn>=1.4"'
        )
    prepared = Prepared(args)

    from refineclip.evaluation.feature_store import FeatureStore
    from refineclip.evaluation.spatial.suite import SETTINGS

    size = args.image_size or prepared.native_size(224 // prepared.patch_size * prepared.patch_size)
    evaluation = prepared.evaluation(prepared.preprocessor(size))
    _check_memory(prepared, size)
    maps = FeatureStore(args.cache_dir).maps(evaluation, prepared.encoders)
    scores = {}
    for name in progress('measures, by row')(list(prepared.encoders)):
        scores[name] = evaluation.spatial_scores(maps.pop(name), args.measures)
    differences = compare_rows(scores, args.compare)
    if args.json is not None:
        write_json(
            args.json,
            {
                'kind': 'spatial',
                'settings': {
                    **prepared.settings(evaluation),
                    'measures': {measure: SETTINGS[measure] for measure in args.measures},
                },
                **as_json(scores, differences),
                'environment': environment(),
            },
        )
    columns = {measure: measure for measure in args.measures}
    title = f'{len(prepared.dataset)} images, {size} px {args.resize}'
    sys.stdout.write(tables(title, columns, scores, differences, args.compare))
    return 0


def _check_memory(prepared: Prepared, size: int) -> None:
    """Refuse before the long work what would not fit, since all tokens are held at once."""
    visuals = [getattr(encoder, 'visual', None) for encoder in prepared.encoders.values()]
    dims = max(4 if visual is None else visual.embed_dim for visual in visuals)
    tokens = (size // prepared.patch_size) ** 2 * len(prepared.dataset)
    needed = 4 * tokens * dims * (len(prepared.encoders) + 2)  # each row, and two copies in turn
    free = os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')
    if needed > free:
        raise ValueError(
            f'expected features that fit in the memory of {free / 2**30:.0f} GiB, got '
            f'{tokens} tokens x {dims} x {len(prepared.encoders)} rows, {needed / 2**30:.0f} GiB; '
            'use fewer images (--limit), fewer rows or a smaller --image-size'
        )
