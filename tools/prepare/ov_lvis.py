"""Make OV-LVIS's training file: ``python tools/prepare/ov_lvis.py data/lvis_v1``.

Reads ``annotations/lvis_v1_train.json`` and writes ``annotations/lvis_v1_train_seen_1203_cat.json``
(the published name): boxes and masks of the 866 frequent and common classes, all images, and all
1203 categories, so that labels are those of the test. Rare is what the file's own ``frequency``
says. The test file, ``lvis_v1_val.json``, is used as it is.

On the full LVIS the counts are checked against the published ones; exit status 1 if they differ.
A subset works too: its counts are reported and not checked.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

TRAIN = 'annotations/lvis_v1_train.json'
OUT = 'annotations/lvis_v1_train_seen_1203_cat.json'
FULL_IMAGES = 100_170
FULL_CATEGORIES = 1203


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line; heavy libraries are imported after it, so errors come at once."""
    parser = argparse.ArgumentParser(description='Make the training file of OV-LVIS.')
    parser.add_argument('data_root', type=Path, help='folder of LVIS v1, with annotations/ in it')
    parser.add_argument('--out', type=Path, help=f'file to write (default: DATA_ROOT/{OUT})')
    args = parser.parse_args(argv)
    args.out = args.out or args.data_root / OUT
    if not (args.data_root / TRAIN).is_file():
        parser.error(
            f'expected the official annotations of LVIS v1, got no file {args.data_root / TRAIN}'
        )
    return args


def keep_seen(content: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Leave out the annotations of rare categories.

    Args:
        content: Content of the official training file.

    Returns:
        All of it but those annotations, and the names of the rare categories in order of their id.

    Raises:
        ValueError: If categories have no frequency.
    """
    categories = sorted(content['categories'], key=lambda category: category['id'])
    without = [c['name'] for c in categories if c.get('frequency') not in ('r', 'c', 'f')]
    if without:
        raise ValueError(
            "expected a frequency 'r', 'c' or 'f' for each category, as in LVIS v1, got none for "
            f'{without[:5]}'
        )
    rare = {c['id']: c['name'] for c in categories if c['frequency'] == 'r'}
    seen = [row for row in content['annotations'] if row['category_id'] not in rare]
    return {**content, 'annotations': seen}, list(rare.values())


def verdict(made: dict[str, Any], rare: list[str]) -> bool:
    """Report the counts, and compare those of a full LVIS with the published; True unless bad."""
    from refineclip.datasets.ov_splits import get_split

    images, categories = len(made['images']), len(made['categories'])
    counts = f'{images:,} images, {categories - len(rare)} seen and {len(rare)} rare categories'
    if (images, categories) != (FULL_IMAGES, FULL_CATEGORIES):
        sys.stdout.write(
            f'  not checked: {counts}, which is not the full LVIS v1 ({FULL_IMAGES:,} images, '
            f'{FULL_CATEGORIES} categories)\n'
        )
        return True
    good = tuple(rare) == get_split('ov-lvis').novel
    sys.stdout.write(
        f'  {"OK" if good else "DIFFERS"}: {counts}; published {FULL_IMAGES:,}, 866 and 337\n'
    )
    return good


def main(argv: list[str] | None = None) -> int:
    """Make the file."""
    args = parse_args(argv)
    from mmengine.fileio import dump, load

    content = load(args.data_root / TRAIN)
    try:
        made, rare = keep_seen(content)
    except ValueError as error:
        raise SystemExit(f'{args.data_root / TRAIN}: {error}') from None
    args.out.parent.mkdir(parents=True, exist_ok=True)
    partial = args.out.with_name(f'partial_{args.out.name}')
    dump(made, partial)
    partial.replace(args.out)  # whole or not at all
    left_out = len(content['annotations']) - len(made['annotations'])
    sys.stdout.write(
        f'{args.out}: {len(made["annotations"]):,} boxes, {left_out:,} of rare ones left out\n'
    )
    return 0 if verdict(made, rare) else 1


if __name__ == '__main__':
    sys.exit(main())
