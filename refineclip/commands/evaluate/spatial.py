"""``evaluate spatial``: dense maps as they are, without any text."""

from __future__ import annotations

import argparse
import importlib.util
import sys

from .common import (
    as_json,
    compare_rows,
    environment,
    tables,
    write_json,
)
from .panoptic import Prepared, add_panoptic_arguments

EXAMPLE = (
    '--data data/microworld --split val --image-size 128 --model microworld-clip '
    '--models frozen=shipped random=random colour=colour'
)
NOTES = """Measures (details in docs/evaluation.md), each in [0, 1], higher is better:
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
    from refineclip.evaluation.spatial.streaming import stream_spatial_scores
    from refineclip.evaluation.spatial.suite import SETTINGS

    size = args.image_size or prepared.native_size(224 // prepared.patch_size * prepared.patch_size)
    evaluation = prepared.evaluation(prepared.preprocessor(size))
    scores = stream_spatial_scores(
        evaluation, prepared.encoders, args.measures, FeatureStore(args.cache_dir)
    )
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
