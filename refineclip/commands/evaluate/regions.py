"""``evaluate regions``: ground-truth regions by class names."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .common import as_json, compare_rows, environment, tables, write_json
from .panoptic import Prepared, add_panoptic_arguments

if TYPE_CHECKING:
    from refineclip.evaluation.regions import RegionRules

EXAMPLE = (
    '--data data/microworld --split val --image-size 128 --model microworld-clip '
    '--models frozen=shipped random=random --templates photo'
)
NOTES = """Ways of a region into the space of class names (details in docs/evaluation.md):
  boxes  RoIAlign 1 x 1 on the dense map
  masks  mean of the tokens under the segment's mask
  crops  image embedding of the region, cut out
Accuracies are means over the classes that occur, of the fixed list; 'regions@1' counts regions.
--protocol clipself is CLIPSelf's published evaluation, ours is this project's. An option that has a
value here changes that rule of the protocol, and the tables say so.
"""

WAYS = ('boxes', 'masks', 'crops')


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``evaluate regions``."""
    parser.add_argument(
        '--protocol',
        choices=('clipself', 'ours'),
        default='clipself',
        help='rules of the evaluation (default: clipself)',
    )
    size = 'clipself: 64 tokens a side, up to 1024 px; ours: as many as 1024 px hold'
    add_panoptic_arguments(parser, None, size)
    parser.set_defaults(dense_mode=None)
    text = parser.add_argument_group('class names')
    text.add_argument(
        '--text-embeddings',
        type=Path,
        metavar='FILE',
        help='.npy, .pt or .safetensors, one row per category in the order of sorted ids; '
        "default: the model's own text tower",
    )
    text.add_argument(
        '--text-pretrained',
        metavar='CHECKPOINT',
        help='weights of the text tower (default: those of the first row that has any)',
    )
    text.add_argument(
        '--text-head',
        type=Path,
        metavar='FILE',
        help='for towers without text: what tools/fit_text_head.py wrote',
    )
    text.add_argument(
        '--templates',
        help="prompts: vild, photo, imagenet, or one of your own, 'a {}' (default: vild)",
    )
    text.add_argument(
        '--class-names',
        choices=('raw', 'words'),
        help="as the json spells them (clipself), or 'wall' for 'wall-other-merged' (ours)",
    )
    text.add_argument(
        '--classes', nargs='+', metavar='NAME', help='vocabulary: some classes of the data set'
    )
    regions = parser.add_argument_group('regions')
    regions.add_argument(
        '--area',
        type=float,
        nargs=2,
        metavar=('MIN', 'MAX'),
        help='area of the box in square pixels of the original image (default: 64 1048576)',
    )
    regions.add_argument('--min-area', type=float, help='least share of the image (default: 0)')
    regions.add_argument(
        '--crowds', action=argparse.BooleanOptionalAction, help='count crowds (clipself), or not'
    )
    regions.add_argument(
        '--normalize-tokens',
        action=argparse.BooleanOptionalAction,
        help='L2-normalise tokens before pooling (clipself), or not (ours, and with --text-head)',
    )
    regions.add_argument(
        '--mask-pooling',
        choices=('resized', 'any', 'area'),
        help='tokens where the resized mask is above 0 (clipself), all that it touches, or weighed '
        'by the share that it covers (ours)',
    )
    regions.add_argument('--crop-size', type=int, help='side of crops (default: native size)')
    regions.add_argument(
        '--crop-enlarge',
        type=float,
        nargs='+',
        metavar='FACTOR',
        help='cut boxes enlarged: one factor, or one of things and one of stuff (clipself: 1.5 1, '
        'ours: 1 1)',
    )
    regions.add_argument(
        '--crop-resize',
        choices=('letterbox', 'squash'),
        help='as --resize, for crops (default: letterbox)',
    )
    regions.add_argument('--no-crops', action='store_true', help='leave out the crops')


def rules_of(args: argparse.Namespace) -> RegionRules:
    """Rules of a command line: the protocol's, and what its options change.

    Raises:
        ValueError: If a rule is out of range, or a text head meets normalised tokens.
    """
    from refineclip.evaluation.regions import region_rules

    if args.text_head is not None and args.normalize_tokens:
        raise ValueError(
            '--normalize-tokens: expected raw tokens beside --text-head, which was fitted on raw '
            'features; leave out one of them'
        )
    enlarge = args.crop_enlarge
    return region_rules(
        args.protocol,
        image_size=args.image_size,
        image_resize=args.resize,
        dense_mode=args.dense_mode,
        normalize_tokens=args.normalize_tokens if args.text_head is None else False,
        class_names=args.class_names,
        templates=args.templates,
        crowds=args.crowds,
        area_px=args.area,
        min_area=args.min_area,
        mask_pooling=args.mask_pooling,
        crop_size=args.crop_size,
        crop_resize=args.crop_resize,
        crop_enlarge=enlarge and (enlarge * 2 if len(enlarge) == 1 else enlarge),
    )


def run(args: argparse.Namespace) -> int:
    """Measure every row and print the tables."""
    rules = rules_of(args)
    args.resize, args.dense_mode = rules.image_resize, rules.dense_mode
    prepared = Prepared(args)

    from refineclip.encoders.text.text_head import TextHead
    from refineclip.evaluation.feature_store import FeatureStore
    from refineclip.evaluation.regions import class_texts
    from refineclip.evaluation.regions.streaming import stream_region_scores

    patch = prepared.patch_size
    native = prepared.native_size(224 // patch * patch)
    preprocessor = prepared.preprocessor(
        rules.canvas_side(patch),
        crop_size=rules.crop_size or native,
        crop_resize=rules.crop_resize,
    )
    evaluation = prepared.evaluation(preprocessor, rules=rules, classes=args.classes)
    protocol = rules.as_protocol_says(patch, native).describe(
        *([f'{len(evaluation.classes)} classes'] if args.classes else [])
    )
    head = None if args.text_head is None else TextHead.load(args.text_head)
    texts = class_texts(
        prepared.dataset.classes,
        evaluation.classes,
        args.text_embeddings,
        model=args.model,
        pretrained=args.text_pretrained or library_weights(prepared.rows),
        templates=rules.templates,
        cache_dir=args.cache_dir,
        class_names=rules.class_names,
    )
    _check_width(prepared, texts.embeddings.shape[1], head)
    found = stream_region_scores(
        evaluation,
        prepared.encoders,
        texts.embeddings,
        head,
        crops=not args.no_crops,
        store=FeatureStore(args.cache_dir),
    )
    scores = found.scores
    differences = compare_rows(scores, args.compare)
    if args.json is not None:
        settings = {
            'protocol': protocol,
            **prepared.settings(evaluation),
            'rules': vars(rules),
            'classes': list(evaluation.classes),
            'num_regions': found.num_regions,
            'text': texts.source,
            'text_head': args.text_head,
        }
        # Crops are cut as the rules say, one factor for things and one for stuff.
        del settings['preprocessing']['crop_enlarge']
        content: dict[str, Any] = {'kind': 'regions', 'settings': settings}
        content |= as_json(scores, differences)
        write_json(args.json, {**content, 'environment': environment()})
    _print(scores, differences, args, f'{len(prepared.dataset)} images, protocol {protocol}')
    return 0


def _print(scores: dict, differences: dict, args: argparse.Namespace, caption: str) -> None:
    for way in WAYS[: 2 if args.no_crops else 3]:
        columns = {
            f'{way}_{group}{measure}': f'{head}@{k}'
            for k in (1, 5)
            for group, head in (('things_', 'things'), ('stuff_', 'stuff'), ('', 'all'))
            for measure in (f'class_top{k}',)
        }
        columns |= {f'{way}_top1': 'regions@1', f'{way}_top5': 'regions@5'}
        table = tables(way, columns, scores, differences, args.compare)
        sys.stdout.write(f'{way}, {caption}\n{table}\n')


def library_weights(rows: dict[str, str]) -> str | None:
    """First spec that may bring a text tower: neither a baseline nor this package's checkpoint."""
    from refineclip.evaluation.encoders import COLOUR, RANDOM, is_own_checkpoint, split_tap

    for spec in rows.values():
        base, _ = split_tap(spec)
        if base not in (RANDOM, COLOUR) and not is_own_checkpoint(base):
            return base
    return None


def _check_width(prepared: Prepared, width: int, head: Any) -> None:
    """Hold the rows' width against that of the class names, before the long work."""
    for name, encoder in prepared.encoders.items():
        visual = getattr(encoder, 'visual', None)
        if visual is None:
            raise ValueError(
                f'--models: expected rows with a text space, got {name!r} (mean colours); it is a '
                'row of evaluate spatial'
            )
        have, want = visual.embed_dim, width
        if head is not None:
            have, want = head.weight.shape[0], width
            if head.weight.shape[1] != visual.embed_dim:
                have, want = visual.embed_dim, head.weight.shape[1]
        if have != want:
            raise ValueError(
                f'expected class names of the width of the features, got {want} for features of '
                f'{have}; take the text embeddings of this very model, or fit a --text-head '
                '(tools/fit_text_head.py)'
            )
