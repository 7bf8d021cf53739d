"""Pascal-Context with all 459 classes, from the .mat files.

Reads VOCdevkit/VOC2010/trainval/*.mat and labels.txt under DATA_ROOT, writes 16-bit maps of
[0, 458] to annotations_detectron2/pc459_val/*.tif, the layout of CAT-Seg's tool. The images are
those of pascalcontext_val.txt where it is there, otherwise of
ImageSets/SegmentationContext/val.txt, which pascal_context_59.py writes.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from preparing import convert_all, finish, make_parser, need

NUM_CLASSES = 459


def convert(path: Path) -> np.ndarray:
    """Read a LabelMap of 1..459, return labels from 0; 0 is unlabelled and becomes 65535."""
    from scipy.io import loadmat

    content = loadmat(path)
    if 'LabelMap' not in content:
        raise SystemExit(f'{path}: expected a LabelMap, got {sorted(content)}')
    labels = content['LabelMap'].astype(np.int64)
    if labels.min() < 0 or labels.max() > NUM_CLASSES:
        raise SystemExit(
            f'{path}: expected labels 0..{NUM_CLASSES}, got {labels.min()}..{labels.max()}'
        )
    return np.where(labels == 0, 65535, labels - 1).astype(np.uint16)


def main(argv: list[str] | None = None) -> int:
    """Convert and check."""
    parser = make_parser(__doc__)
    parser.add_argument('--val-list', type=Path, help='names of the images, one a line')
    args = parser.parse_args(argv)
    root = args.data_root / 'VOCdevkit' / 'VOC2010'
    listed = args.val_list or root / 'pascalcontext_val.txt'
    if args.val_list is None and not listed.exists():
        listed = root / 'ImageSets' / 'SegmentationContext' / 'val.txt'
    need(root / 'labels.txt', 'the names of the classes')
    stems = need(listed, 'the list of images').read_text().split()
    sources = [need(root / 'trainval', 'the .mat files') / f'{stem}.mat' for stem in stems]
    if missing := [path for path in sources if not path.exists()]:
        raise SystemExit(
            f'expected a .mat for each image, {len(missing)} are not there: {missing[:3]}'
        )
    target = root / 'annotations_detectron2' / 'pc459_val'
    convert_all([(path, target / f'{path.stem}.tif') for path in sources], convert)
    return finish(['pc459'], args.data_root)


if __name__ == '__main__':
    sys.exit(main())
