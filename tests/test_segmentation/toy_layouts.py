"""Tiny data sets in the layouts that are downloaded, drawn here: three images each."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from .toy_text import stripes, write_image, write_labels

STEMS = ('2008_000001', '2008_000002', '2008_000003')
COCO_STEMS = ('000000000139', '000000000285', '000000000632')


def voc2012(root: Path) -> Path:
    """VOC 2012 as it is unpacked: palette PNGs with 255 along the outlines; SBD's labels are grey.

    SBD's differ where it matters: they have class 19 where VOC has 20.
    """
    base = root / 'VOCdevkit' / 'VOC2012'
    for seed, stem in enumerate(STEMS):
        write_image(base / 'JPEGImages' / f'{stem}.jpg', seed=seed)
        labels = Image.fromarray(stripes(0, 1 + seed, 255, 20)).convert('P')
        labels.putpalette([value % 256 for value in range(3 * 256)])
        path = base / 'SegmentationClass' / f'{stem}.png'
        path.parent.mkdir(parents=True, exist_ok=True)
        # putpalette keeps the indices, which are the labels.
        labels.save(path)
        aug = base / 'SegmentationClassAug' / f'{stem}.png'
        write_labels(aug, stripes(0, 1 + seed, 255, 19))
    # One image that is not of the split.
    write_image(base / 'JPEGImages' / '2007_000000.jpg')
    write_list(base / 'ImageSets' / 'Segmentation' / 'val.txt', STEMS)
    return root


def ade150(root: Path) -> Path:
    """ADEChallengeData2016: 0 is none, 1..150 are the classes."""
    base = root / 'ade' / 'ADEChallengeData2016'
    for index in range(1, 4):
        name = f'ADE_val_{index:08d}'
        write_image(base / 'images' / 'validation' / f'{name}.jpg', seed=index)
        path = base / 'annotations' / 'validation' / f'{name}.png'
        write_labels(path, stripes(0, index, 150))
    return root


def cityscapes(root: Path, labels: Any = None) -> Path:
    """Label ids, as in gtFine_trainvaltest.zip."""
    labels = stripes(0, 7, 26, 33) if labels is None else labels
    for city, number in (('munster', 0), ('munster', 1), ('lindau', 2)):
        name = f'{city}_{number:06d}_000019'
        base = root / 'cityscapes'
        write_image(base / 'leftImg8bit' / 'val' / city / f'{name}_leftImg8bit.png', seed=number)
        write_labels(base / 'gtFine' / 'val' / city / f'{name}_gtFine_labelIds.png', labels)
    return root


def coco_stuff(root: Path, labels: Any = None) -> Path:
    """stuffthingmaps: things 0..90, stuff 91..181, 255 unlabelled."""
    labels = stripes(0, 89, 91, 181, 255, 12) if labels is None else labels
    base = root / 'coco_stuff164k'
    for seed, stem in enumerate(COCO_STEMS):
        write_image(base / 'images' / 'val2017' / f'{stem}.jpg', seed=seed)
        write_labels(base / 'annotations' / 'val2017' / f'{stem}.png', labels)
    return root


def context_labels() -> dict[int, str]:
    """Names 1..459 in alphabetical order, the 59 known ones at their real numbers."""
    from mmseg.datasets import PascalContextDataset59

    # Numbers of aeroplane, bag and wood in the set's own labels.txt.
    known = dict(zip((2, 9, 458), ('aeroplane', 'bag', 'wood'), strict=True))
    assert set(known.values()) < set(PascalContextDataset59.METAINFO['classes'])
    return {number: known.get(number, f'thing{number:03d}') for number in range(1, 460)}


def context459(root: Path) -> Path:
    """trainval/*.mat with uint16 LabelMaps of 1..459, labels.txt and the list of images."""
    from scipy.io import savemat

    base = root / 'VOCdevkit' / 'VOC2010'
    for seed, stem in enumerate(STEMS):
        write_image(base / 'JPEGImages' / f'{stem}.jpg', seed=seed)
        (base / 'trainval').mkdir(parents=True, exist_ok=True)
        labels = stripes(1, 256 + seed, 459, dtype=np.uint16)
        savemat(base / 'trainval' / f'{stem}.mat', {'LabelMap': labels})
    write_image(base / 'JPEGImages' / '2009_000009.jpg')  # of the training split
    lines = [f'{number}: {name}' for number, name in context_labels().items()]
    (base / 'labels.txt').write_text('\n'.join(lines) + '\n')
    write_list(base / 'pascalcontext_val.txt', STEMS)
    return root


def context_json(root: Path) -> Path:
    """trainval_merged.json: images with their phase, segments as RLE of category numbers."""
    from pycocotools import mask

    base = root / 'VOCdevkit' / 'VOC2010'
    images, segments = [], []
    for index, stem in enumerate(STEMS):
        write_image(base / 'JPEGImages' / f'{stem}.jpg', seed=index)
        phase = 'train' if index == 2 else 'val'
        images.append(
            dict(image_id=index, file_name=f'{stem}.jpg', phase=phase, height=40, width=48)
        )
        drawn = stripes(0, 2, 458, 259, dtype=np.int64)
        for category in (2, 458, 259):
            rle = mask.encode(np.asfortranarray(drawn == category).astype(np.uint8))
            rle['counts'] = rle['counts'].decode()
            segments.append(dict(image_id=index, category_id=category, segmentation=rle))
    content = dict(images=images, annos_segmentation=segments)
    (base / 'trainval_merged.json').write_text(json.dumps(content))
    return root


def ade_full(root: Path, size: tuple[int, int] = (48, 40)) -> Path:
    """ADE20K_2021_17_01: scenes in folders, class ids in red and green of *_seg.png."""
    base = root / 'ADE20K_2021_17_01' / 'images' / 'ADE' / 'validation' / 'urban' / 'street'
    ids = np.array([2978, 312, 0, 5000])  # wall, building, none, a class that is not of the 847
    for index in range(1, 4):
        name = f'ADE_val_{index:08d}'
        write_image(base / f'{name}.jpg', size, seed=index)
        labels = np.repeat(ids, size[0] // 4)[None].repeat(size[1], 0)
        rgb = np.zeros((*labels.shape, 3), dtype=np.uint8)
        rgb[..., 0], rgb[..., 1] = labels // 256 * 10, labels % 256
        rgb[..., 2] = 77  # instance numbers
        Image.fromarray(rgb).save(base / f'{name}_seg.png')
    return root


# First names that several of the 847 classes have; 'bag' three of them.
ADE_REPEATED = (
    *('bag', 'pot', 'basket', 'screen', 'pier', 'control panel', 'pipe', 'grill', 'patio'),
)


def ade_classes() -> list[dict[str, Any]]:
    """847 entries as they are published; the first two and the nine repeats are real."""
    names = {0: 'wall', 1: 'building, edifice', 500: 'bag, handbag'}
    for number, name in enumerate(ADE_REPEATED):
        names |= {10 + number: f'{name}, one', 700 + number: name}
    ids = {0: 2978, 1: 312}
    return [
        dict(name=names.get(i, f'n{i}'), id=ids.get(i, 10000 + i), trainId=i) for i in range(847)
    ]


def ade847(root: Path) -> Path:
    """The full ADE20K as ``tools/prepare/ade20k_847.py`` leaves it."""
    base = root / 'ADE20K_2021_17_01'
    for index in range(1, 4):
        stem = f'ADE_val_{index:08d}'
        write_image(base / 'images_detectron2' / 'validation' / f'{stem}.jpg', seed=index)
        labels = stripes(10, 500, 700, 65535, dtype=np.uint16)
        write_labels(base / 'annotations_detectron2' / 'validation' / f'{stem}.tif', labels)
    listed = [
        dict(id=entry['id'], name=entry['name'].replace(', ', ';')) for entry in ade_classes()
    ]
    (base / 'classes_847.json').write_text(json.dumps(listed))
    return root


def write_list(path: Path, stems: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(''.join(f'{stem}\n' for stem in stems))
