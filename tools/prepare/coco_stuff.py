"""COCO-Stuff: the ids of stuffthingmaps_trainval2017.zip to the 171 training ids.

Reads annotations/SPLIT/*.png under DATA_ROOT/coco_stuff164k, writes *_labelTrainIds.png beside
them, which is mmseg's layout. images/SPLIT holds the images of COCO 2017.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image
from preparing import convert_all, finish, look_up, make_parser, need

# COCO numbers 91 things and 91 stuff; these were never used (and 255 is unlabelled).
UNUSED = {11, 25, 28, 29, 44, 65, 67, 68, 70, 82, 90}
USED = [label for label in range(182) if label not in UNUSED]
TABLE = {**{label: index for index, label in enumerate(USED)}, 255: 255}


def convert(path: Path) -> np.ndarray:
    """Read ids of COCO-Stuff, return training ids."""
    return look_up(np.asarray(Image.open(path)), TABLE, path, default=None).astype(np.uint8)


def sources(data_root: Path, split: str) -> list[Path]:
    """List the published label files of a split."""
    folder = need(data_root / 'coco_stuff164k' / 'annotations' / split, 'the maps of COCO-Stuff')
    return sorted(path for path in folder.glob('*.png') if 'TrainIds' not in path.name)


def main(argv: list[str] | None = None) -> int:
    """Convert and check."""
    parser = make_parser(__doc__)
    parser.add_argument(
        '--splits', nargs='+', default=['val2017'], help='default: val2017; train2017 for CAT-Seg'
    )
    args = parser.parse_args(argv)
    for split in args.splits:
        pairs = [
            (path, path.with_name(f'{path.stem}_labelTrainIds.png'))
            for path in sources(args.data_root, split)
        ]
        convert_all(pairs, convert)
    return finish(['coco-stuff'], args.data_root)


if __name__ == '__main__':
    sys.exit(main())
