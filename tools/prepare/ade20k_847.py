"""The full ADE20K with 847 classes, from ADE20K_2021_17_01 as it is handed out on request.

Reads images/ADE/validation/**/*.jpg and *_seg.png under DATA_ROOT/ADE20K_2021_17_01, writes
images_detectron2/validation/*.jpg and annotations_detectron2/validation/*.tif (16 bits, 65535 is
ignored), shrunk to a short side of 512 px at most: layout and sizes of MaskFormer's tool. Also
writes classes_847.json, ids and names in the order of the labels, which the data set class and
`segment --vocabulary` read. Nine first names stand for two or three classes each (bag, pot, ...);
the ids tell them apart.

The list of the 847 classes is not ours to ship. Give --classes a file that has it: MaskFormer
publishes it in datasets/prepare_ade20k_full_sem_seg.py (github.com/facebookresearch/MaskFormer);
that .py is read as text, never run. A JSON of the same entries serves as well:
[{"name": "wall", "id": 2978, "trainId": 0}, ...].
"""

from __future__ import annotations

import ast
import json
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from PIL import Image
from preparing import finish, look_up, make_parser, need, progress, save_labels

NUM_CLASSES, IGNORED = 847, 65535
KEYS = {'name', 'id', 'trainId'}


def read_classes(path: Path) -> list[dict[str, Any]]:
    """Read the entries of the 847 classes, ordered by label."""
    text = need(path, 'the list of the classes').read_text()
    found: Any = None
    if path.suffix == '.py':
        for node in ast.parse(text).body:
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.List):
                found = ast.literal_eval(node.value)
                break
    else:
        found = json.loads(text)
    if not isinstance(found, list) or not all(
        isinstance(entry, dict) and entry.keys() >= KEYS for entry in found
    ):
        raise SystemExit(f'{path}: expected a list of entries with {sorted(KEYS)}, got another')
    found = sorted(found, key=lambda entry: entry['trainId'])
    if [entry['trainId'] for entry in found] != list(range(NUM_CLASSES)):
        raise SystemExit(
            f'{path}: expected trainId 0..{NUM_CLASSES - 1}, each once, got {len(found)} entries'
        )
    return found


def read_ids(path: Path) -> np.ndarray:
    """Read the class ids that ADE20K hides in red and green of its _seg.png."""
    rgb = np.asarray(Image.open(path).convert('RGB')).astype(np.int32)
    return rgb[..., 0] // 10 * 256 + rgb[..., 1]


def shrink(size: tuple[int, int], short_side: int) -> tuple[int, int]:
    """Width and height such that the shorter side is at most ``short_side``; 0 keeps them."""
    scale = short_side / min(size)
    if short_side == 0 or scale >= 1:
        return size
    width, height = (
        short_side if length == min(size) else round(length * scale) for length in size
    )
    return width, height


def main(argv: list[str] | None = None) -> int:
    """Convert and check."""
    parser = make_parser(__doc__)
    parser.add_argument('--classes', type=Path, required=True, metavar='FILE')
    parser.add_argument(
        '--short-side', type=int, default=512, help='0 keeps the size (default: 512, as published)'
    )
    args = parser.parse_args(argv)
    root = args.data_root / 'ADE20K_2021_17_01'
    classes = read_classes(args.classes)
    folder = need(root / 'images' / 'ADE' / 'validation', 'the images of ADE20K')
    table = {entry['id']: entry['trainId'] for entry in classes}
    sources = sorted(folder.rglob('ADE_val_*.jpg'))
    images = root / 'images_detectron2' / 'validation'
    images.mkdir(parents=True, exist_ok=True)
    for path in progress(sources, 'images'):
        labels_path = root / 'annotations_detectron2' / 'validation' / f'{path.stem}.tif'
        if labels_path.exists():
            continue
        image = np.asarray(Image.open(path).convert('RGB'))
        seg = need(path.with_name(f'{path.stem}_seg.png'), 'the labels')
        labels = look_up(read_ids(seg), table, seg, default=IGNORED).astype(np.uint16)
        size = shrink((image.shape[1], image.shape[0]), args.short_side)
        if size != (image.shape[1], image.shape[0]):
            image = cv2.resize(image, size, interpolation=cv2.INTER_LINEAR)
            labels = cv2.resize(labels, size, interpolation=cv2.INTER_NEAREST)
        Image.fromarray(image).save(images / path.name)
        save_labels(labels, labels_path)
    # Synonyms of one class are separated by commas there, by semicolons here.
    listed = [dict(id=entry['id'], name=entry['name'].replace(', ', ';')) for entry in classes]
    (root / 'classes_847.json').write_text(json.dumps(listed, indent=0) + '\n')
    return finish(['a847'], args.data_root)


if __name__ == '__main__':
    sys.exit(main())
