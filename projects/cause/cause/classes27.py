"""The 27 classes of COCO-Stuff and of Cityscapes, and the ids of the published label maps.

COCO-Stuff-27 is not a list of its own: every COCO category, thing or stuff, has a published
supercategory, and there are 12 of things and 15 of stuff. ``STUFF_27`` is that table by category
id, as in the ``categories`` of COCO's instance and stuff annotations (things 1-90, stuff 92-182).
Cityscapes-27 are the label ids 7 to 33, which leaves out the void labels (PiCIE, STEGO).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

IGNORE = 255

THINGS_27: dict[str, tuple[int, ...]] = {
    'person': (1,),
    'vehicle': (2, 3, 4, 5, 6, 7, 8, 9),
    'outdoor': (10, 11, 13, 14, 15),
    'animal': (16, 17, 18, 19, 20, 21, 22, 23, 24, 25),
    'accessory': (27, 28, 31, 32, 33),
    'sports': (34, 35, 36, 37, 38, 39, 40, 41, 42, 43),
    'kitchen': (44, 46, 47, 48, 49, 50, 51),
    'food': (52, 53, 54, 55, 56, 57, 58, 59, 60, 61),
    'furniture': (62, 63, 64, 65, 67, 70),
    'electronic': (72, 73, 74, 75, 76, 77),
    'appliance': (78, 79, 80, 81, 82),
    'indoor': (84, 85, 86, 87, 88, 89, 90),
}

STUFF_27: dict[str, tuple[int, ...]] = {
    'textile': (92, 93, 104, 105, 109, 131, 137, 141, 152, 167, 168),
    'plant': (94, 97, 119, 124, 129, 134, 142, 163, 169),
    'building': (95, 96, 128, 151, 158, 166),
    'furniture-stuff': (98, 107, 108, 110, 112, 123, 130, 133, 156, 161, 165),
    'structural': (99, 113, 138, 146, 164),
    'raw-material': (100, 132, 139, 143),
    'floor': (101, 114, 115, 116, 117, 118),
    'ceiling': (102, 103),
    'sky': (106, 157),
    'ground': (111, 125, 126, 136, 140, 144, 145, 147, 149, 154, 159),
    'water': (120, 148, 155, 178, 179),
    'food-stuff': (121, 122, 153, 170),
    'solid': (127, 135, 150, 160, 162, 182),
    'wall': (171, 172, 173, 174, 175, 176, 177),
    'window': (180, 181),
}

COCO_STUFF_27: tuple[str, ...] = (*THINGS_27, *STUFF_27)

CITYSCAPES_27: tuple[str, ...] = (
    'road',
    'sidewalk',
    'parking',
    'rail track',
    'building',
    'wall',
    'fence',
    'guard rail',
    'bridge',
    'tunnel',
    'pole',
    'polegroup',
    'traffic light',
    'traffic sign',
    'vegetation',
    'terrain',
    'sky',
    'person',
    'rider',
    'car',
    'truck',
    'bus',
    'caravan',
    'trailer',
    'train',
    'motorcycle',
    'bicycle',
)


def coco_stuff_lookup() -> NDArray[np.uint8]:
    """Class of every pixel value of a ``stuffthingmaps`` PNG.

    Returns:
        (256,) classes in [0, 26]; 255 for values without one. A pixel value is category id - 1, and
        255 is unlabelled.
    """
    table = np.full(256, IGNORE, dtype=np.uint8)
    for index, ids in enumerate([*THINGS_27.values(), *STUFF_27.values()]):
        table[np.array(ids) - 1] = index
    return table


def cityscapes_lookup() -> NDArray[np.uint8]:
    """Class of every pixel value of a ``*_gtFine_labelIds.png``.

    Returns:
        (256,) classes in [0, 26] for the label ids 7 to 33; 255 for the others.
    """
    table = np.full(256, IGNORE, dtype=np.uint8)
    table[7:34] = np.arange(27)
    return table
