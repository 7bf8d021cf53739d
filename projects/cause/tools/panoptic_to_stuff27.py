"""Make COCO-Stuff pixel maps from COCO panoptic ground truth, good to the 27 classes.

    python projects/cause/tools/panoptic_to_stuff27.py data/coco data/cocostuff27_pilot \
        --splits train2017 val2017

Panoptic COCO merges fine stuff classes ("tree-merged") but keeps the 27 supercategories. A merged
class gets the first COCO-Stuff id of its supercategory, so only the 27 classes of these maps mean
anything. The published maps differ at borders and where panoptic COCO is void.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

sys.path.append(str(Path(__file__).resolve().parents[3]))

from projects.cause.cause.classes27 import IGNORE, STUFF_27, THINGS_27
from refineclip.datasets.coco_panoptic import CocoPanoptic, PanopticImage


def pixel_values(dataset: CocoPanoptic) -> NDArray[np.uint8]:
    """Pixel value of every panoptic category.

    Args:
        dataset: Panoptic ground truth with COCO's supercategories.

    Returns:
        (C,) a COCO-Stuff id of the category's supercategory, minus one.

    Raises:
        ValueError: If a supercategory is none of the 27.
    """
    first = {name: ids[0] for name, ids in {**THINGS_27, **STUFF_27}.items()}
    names = [dataset.supercategories[index] for index in dataset.class_to_super]
    if unknown := sorted(set(names) - first.keys()):
        raise ValueError(f"expected COCO's 27 supercategories, got others: {unknown}")
    return np.array([first[name] - 1 for name in names], dtype=np.uint8)


def stuff_map(image: PanopticImage, values: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Pixel map (H, W) of one image; 255 where no segment is."""
    ids = image.read_ids()
    result = np.full(ids.shape, IGNORE, dtype=np.uint8)
    for segment in image.segments:
        result[ids == segment.id] = values[segment.category]
    return result


def convert_split(data_root: Path, out: Path, split: str) -> int:
    """Write the maps of one split and link its images; returns the number of maps."""
    dataset = CocoPanoptic(data_root, split)
    values = pixel_values(dataset)
    folder = out / 'stuffthingmaps' / split
    folder.mkdir(parents=True, exist_ok=True)
    link = out / split
    if not link.exists():
        link.symlink_to((data_root / split).resolve(), target_is_directory=True)
    for image in dataset:
        path = folder / f'{image.img_path.stem}.png'
        Image.fromarray(stuff_map(image, values)).save(path)
    return len(dataset)


def main(argv: list[str] | None = None) -> int:
    """Parse the command line and convert."""
    parser = argparse.ArgumentParser(description='COCO panoptic to COCO-Stuff-27 pixel maps.')
    parser.add_argument('data_root', type=Path, help='COCO root with annotations/panoptic_*')
    parser.add_argument('out', type=Path, help='new root: maps, and links to the images')
    parser.add_argument('--splits', nargs='+', default=['train2017', 'val2017'])
    args = parser.parse_args(argv)
    for split in args.splits:
        count = convert_split(args.data_root, args.out, split)
        sys.stdout.write(f'{split}: {count} maps in {args.out / "stuffthingmaps" / split}\n')
    return 0


if __name__ == '__main__':
    sys.exit(main())
