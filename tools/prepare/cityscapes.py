"""Cityscapes: label ids to the 19 training ids.

Reads gtFine/SPLIT/CITY/*_gtFine_labelIds.png under DATA_ROOT/cityscapes, writes
*_gtFine_labelTrainIds.png beside them (what cityscapesscripts makes from the polygons).
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
from PIL import Image
from preparing import convert_all, finish, look_up, make_parser, need

# Label ids of the 19 evaluated classes in the order of their training ids (cityscapesscripts).
EVALUATED = (7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33)
TABLE = {label: index for index, label in enumerate(EVALUATED)}


def convert(path: Path) -> np.ndarray:
    """Read label ids, return training ids."""
    return look_up(np.asarray(Image.open(path)), TABLE, path, default=255).astype(np.uint8)


def main(argv: list[str] | None = None) -> int:
    """Convert and check."""
    parser = make_parser(__doc__)
    parser.add_argument('--splits', nargs='+', default=['val'], help='default: val')
    args = parser.parse_args(argv)
    folder = need(args.data_root / 'cityscapes' / 'gtFine', 'gtFine of Cityscapes')
    for split in args.splits:
        sources = sorted(need(folder / split, 'a split').glob('*/*_gtFine_labelIds.png'))
        convert_all(
            [(s, s.with_name(s.name.replace('_labelIds', '_labelTrainIds'))) for s in sources],
            convert,
        )
    return finish(['cityscapes'], args.data_root)


if __name__ == '__main__':
    sys.exit(main())
