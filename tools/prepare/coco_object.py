"""COCO-Object: the 80 things of COCO-Stuff's maps, and background for all else.

Reads annotations/val2017/*.png under DATA_ROOT/coco_stuff164k (as coco_stuff.py), writes
*_instanceTrainIds.png beside them: 0 is background (stuff and unlabelled pixels alike, as in
GroupViT, arXiv 2202.11094), 1..80 are the things.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from coco_stuff import USED, sources
from PIL import Image
from preparing import convert_all, finish, look_up, make_parser

THINGS = [label for label in USED if label < 91]
TABLE = {
    **dict.fromkeys([*USED, 255], 0),
    **{label: index + 1 for index, label in enumerate(THINGS)},
}


def convert(path: Path) -> np.ndarray:
    """Read ids of COCO-Stuff, return object labels."""
    return look_up(np.asarray(Image.open(path)), TABLE, path, default=None).astype(np.uint8)


def main(argv: list[str] | None = None) -> int:
    """Convert and check."""
    args = make_parser(__doc__).parse_args(argv)
    pairs = [
        (path, path.with_name(f'{path.stem}_instanceTrainIds.png'))
        for path in sources(args.data_root, 'val2017')
    ]
    convert_all(pairs, convert)
    return finish(['coco-object'], args.data_root)


if __name__ == '__main__':
    sys.exit(main())
