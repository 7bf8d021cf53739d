"""Make OV-COCO's annotation files from COCO's own: ``python tools/prepare/ov_coco.py data/coco``.

Reads ``annotations/instances_{train,val}2017.json`` and writes, below ``zero-shot/``, the files
that published detectors train and test on, under their published names:

- ``instances_train2017_seen_2_65_cat.json``: boxes of the 48 base classes, the images that have
  one, all 65 categories in COCO's order (so labels are those of the test);
- ``instances_val2017_all_2.json``: boxes of all 65 classes, the images that have one.

``--categories 80`` makes the other convention's files instead, with all 80 categories, whose labels
differ, and all images: ``instances_train2017_base.json`` to train on, and, to test base and novel
classes apart, ``instances_val2017_base.json`` and ``instances_val2017_novel.json``.

On the full COCO the number of images is checked against the published one; exit status 1 if it
differs. A subset works too: its counts are reported and not checked.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

Annotations = dict[str, Any]
# Images of the official files, and of the split (107,761 and 4,836: DeCLIP, appendix).
FULL = {'train': 118_287, 'val': 5_000}
PUBLISHED = {'train': 107_761, 'val': 4_836}
FILES = {
    65: {
        'instances_train2017_seen_2_65_cat.json': ('train', 'base'),
        'instances_val2017_all_2.json': ('val', 'all'),
    },
    80: {
        'instances_train2017_base.json': ('train', 'base'),
        'instances_val2017_base.json': ('val', 'base'),
        'instances_val2017_novel.json': ('val', 'novel'),
    },
}


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line; heavy libraries are imported after it, so errors come at once."""
    parser = argparse.ArgumentParser(description='Make the annotation files of OV-COCO.')
    parser.add_argument('data_root', type=Path, help='folder of COCO, with annotations/ in it')
    parser.add_argument('--out-dir', type=Path, help='default: DATA_ROOT/zero-shot')
    parser.add_argument(
        '--categories', type=int, choices=(65, 80), default=65, help='of the files (default: 65)'
    )
    args = parser.parse_args(argv)
    args.out_dir = args.out_dir or args.data_root / 'zero-shot'
    for part in FULL:
        path = source(args.data_root, part)
        if not path.is_file():
            parser.error(f'expected the official annotations of COCO 2017, got no file {path}')
    return args


def source(data_root: Path, part: str) -> Path:
    """The official file of a part."""
    return data_root / 'annotations' / f'instances_{part}2017.json'


def keep(
    content: Annotations,
    categories: Sequence[str],
    classes: Collection[str],
    all_images: bool = False,
) -> Annotations:
    """Keep some classes of an annotation file.

    Args:
        content: The official file's content.
        categories: Names of the categories that the new file lists, with their ids in COCO.
        classes: Names of those whose boxes are kept.
        all_images: Keep also images without any of these boxes.

    Returns:
        Its boxes of ``classes`` and the images that have one; everything else is as it was.

    Raises:
        ValueError: If the file lacks a category.
    """
    by_name = {category['name']: category for category in content['categories']}
    missing = [name for name in categories if name not in by_name]
    if missing:
        raise ValueError(f'expected the 80 categories of COCO, got a file without {missing[:5]}')
    wanted = {by_name[name]['id'] for name in classes}
    boxes = [row for row in content['annotations'] if row['category_id'] in wanted]
    with_box = {row['image_id'] for row in boxes}
    images = [image for image in content['images'] if all_images or image['id'] in with_box]
    listed = [by_name[name] for name in categories]
    return {**content, 'images': images, 'annotations': boxes, 'categories': listed}


def report(name: str, made: Annotations, classes: Collection[str]) -> None:
    """Write counts, and the classes that have no box."""
    count = Counter(row['category_id'] for row in made['annotations'])
    empty = [c['name'] for c in made['categories'] if c['name'] in classes and not count[c['id']]]
    sys.stdout.write(
        f'{name}: {len(made["images"]):,} images, {len(made["annotations"]):,} boxes, '
        f'{len(made["categories"])} categories, boxes of {len(classes) - len(empty)} classes\n'
    )
    if empty:
        sys.stdout.write(f'  without any box: {", ".join(empty)}\n')


def verdict(part: str, num_source: int, num_made: int) -> bool:
    """Compare a number of images with the published one; True unless it differs."""
    if num_source != FULL[part]:
        sys.stdout.write(
            f'  not checked: a subset of {num_source:,} of {FULL[part]:,} images went in\n'
        )
        return True
    good = num_made == PUBLISHED[part]
    sys.stdout.write(
        f'  {"OK" if good else "DIFFERS"}: {num_made:,} images, published {PUBLISHED[part]:,}\n'
    )
    return good


def main(argv: list[str] | None = None) -> int:
    """Make the files."""
    args = parse_args(argv)
    from mmengine.fileio import dump, load

    from refineclip.datasets.ov_splits import get_split

    split = get_split('ov-coco' if args.categories == 65 else 'ov-coco-80')
    classes = {'base': split.base, 'novel': split.novel, 'all': split.base + split.novel}
    args.out_dir.mkdir(parents=True, exist_ok=True)
    good, read, content = True, '', {}
    for name, (part, kind) in FILES[args.categories].items():
        if part != read:
            content, read = load(source(args.data_root, part)), part
        try:
            made = keep(content, split.classes, classes[kind], all_images=args.categories == 80)
        except ValueError as error:
            raise SystemExit(f'{source(args.data_root, part)}: {error}') from None
        partial = args.out_dir / f'partial_{name}'
        dump(made, partial)
        partial.replace(args.out_dir / name)  # whole or not at all
        report(str(args.out_dir / name), made, classes[kind])
        if args.categories == 65:
            good &= verdict(part, len(content['images']), len(made['images']))
    return 0 if good else 1


if __name__ == '__main__':
    sys.exit(main())
