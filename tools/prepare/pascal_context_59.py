"""Pascal-Context with 59 classes (and 60, with background), from trainval_merged.json.

Reads VOCdevkit/VOC2010/trainval_merged.json under DATA_ROOT, writes SegmentationClassContext/*.png
(0 is background, 1..59 the classes by name) and ImageSets/SegmentationContext/SPLIT.txt: the layout
that mmseg's converter makes, without the Detail API that it needs.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from preparing import finish, look_up, make_parser, need, progress, save_labels

# Numbers of the 59 among the 459 categories of labels.txt, both in the order of the names.
CATEGORIES = (
    *(2, 9, 18, 19, 22, 23, 25, 31, 33, 34, 44, 45, 46, 59, 65, 68, 72, 80, 85, 98),
    *(104, 105, 113, 115, 144, 158, 159, 162, 187, 189, 207, 220, 232, 258, 259, 260, 284, 295),
    *(296, 308, 324, 326, 347, 349, 354, 355, 360, 366, 368, 397, 415, 416, 420, 424, 427, 440),
    *(445, 454, 458),
)
TABLE = {0: 0, **{category: index + 1 for index, category in enumerate(CATEGORIES)}}


def draw(image: dict[str, Any], annotations: list[dict[str, Any]], path: Path) -> np.ndarray:
    """Draw the segments of an image in their order, later ones over earlier ones."""
    from pycocotools import mask

    labels = np.zeros((image['height'], image['width']), dtype=np.int64)
    for annotation in annotations:
        labels[mask.decode(annotation['segmentation']).astype(bool)] = annotation['category_id']
    return look_up(labels, TABLE, path, default=0).astype(np.uint8)


def main(argv: list[str] | None = None) -> int:
    """Convert and check."""
    parser = make_parser(__doc__)
    parser.add_argument('--splits', nargs='+', default=['val'], help='default: val')
    args = parser.parse_args(argv)
    root = args.data_root / 'VOCdevkit' / 'VOC2010'
    content = json.loads(need(root / 'trainval_merged.json', 'the annotations').read_text())
    if missing := {'images', 'annos_segmentation'} - content.keys():
        raise SystemExit(f'expected trainval_merged.json, got one without {sorted(missing)}')
    annotations = defaultdict(list)
    for annotation in content['annos_segmentation']:
        annotations[annotation['image_id']].append(annotation)
    for split in args.splits:
        images = [image for image in content['images'] if image['phase'] == split]
        if not images:
            raise SystemExit(f'expected images of the phase {split!r} in the json, got none')
        stems = []
        for image in progress(images, 'label maps'):
            stems.append(Path(image['file_name']).stem)
            path = root / 'SegmentationClassContext' / f'{stems[-1]}.png'
            if not path.exists():
                save_labels(draw(image, annotations[image['image_id']], path), path)
        listed = root / 'ImageSets' / 'SegmentationContext' / f'{split}.txt'
        listed.parent.mkdir(parents=True, exist_ok=True)
        listed.write_text(''.join(f'{stem}\n' for stem in sorted(stems)))
    return finish(['cat-seg/pc59', 'pc60'], args.data_root)


if __name__ == '__main__':
    sys.exit(main())
