"""The benchmarks of open-vocabulary segmentation, by the names that papers give them."""

from __future__ import annotations

from typing import Any

from mmseg.datasets import (
    ADE20KDataset,
    CityscapesDataset,
    COCOStuffDataset,
    PascalContextDataset,
    PascalContextDataset59,
    PascalVOCDataset,
)

from .benchmark import Benchmark
from .datasets import (
    ADE20K847Dataset,
    COCOObjectDataset,
    CocoPanopticSegDataset,
    PascalContext459Dataset,
    PascalVOC20bDataset,
    PascalVOC20Dataset,
)

VOC2010, VOC2012 = 'VOCdevkit/VOC2010', 'VOCdevkit/VOC2012'
CONTEXT_COUNTS = (5105, 5104)  # of the devkit's list, and of trainval_merged.json


_CONTEXT: dict[str, Any] = dict(
    data_root=VOC2010,
    data_prefix=dict(img_path='JPEGImages', seg_map_path='SegmentationClassContext'),
    ann_file='ImageSets/SegmentationContext/val.txt',
    counts=CONTEXT_COUNTS,
    prepare='make the labels with tools/prepare/pascal_context_59.py',
)
_VOC: dict[str, Any] = dict(
    data_root=VOC2012,
    data_prefix=dict(img_path='JPEGImages', seg_map_path='SegmentationClass'),
    ann_file='ImageSets/Segmentation/val.txt',
    counts=(1449,),
    prepare='unpack VOCtrainval_11-May-2012.tar',
)
_COCO: dict[str, Any] = dict(
    data_root='coco_stuff164k',
    data_prefix=dict(img_path='images/val2017', seg_map_path='annotations/val2017'),
    counts=(5000,),
)

BENCHMARKS: dict[str, Benchmark] = {
    benchmark.name: benchmark
    for benchmark in (
        Benchmark('voc21', 'VOC21', PascalVOCDataset, num_labels=21, has_background=True, **_VOC),
        Benchmark(
            'pc60',
            'Context60',
            PascalContextDataset,
            num_labels=60,
            has_background=True,
            **_CONTEXT,
        ),
        Benchmark(
            'coco-object',
            'COCO-Object',
            COCOObjectDataset,
            num_labels=81,
            has_background=True,
            prepare='make the labels with tools/prepare/coco_object.py',
            **_COCO,
        ),
        Benchmark('voc20', 'VOC20', PascalVOC20Dataset, num_labels=20, **_VOC),
        Benchmark(
            'cityscapes',
            'Cityscapes',
            CityscapesDataset,
            'cityscapes',
            dict(img_path='leftImg8bit/val', seg_map_path='gtFine/val'),
            num_labels=19,
            counts=(500,),
            prepare='make the labels with tools/prepare/cityscapes.py',
        ),
        Benchmark('pc59', 'Context59', PascalContextDataset59, num_labels=59, **_CONTEXT),
        Benchmark(
            'a150',
            'ADE20K-150',
            ADE20KDataset,
            'ade/ADEChallengeData2016',
            dict(img_path='images/validation', seg_map_path='annotations/validation'),
            num_labels=150,
            counts=(2000,),
            prepare='unpack ADEChallengeData2016.zip',
        ),
        Benchmark(
            'coco-stuff',
            'COCO-Stuff',
            COCOStuffDataset,
            num_labels=171,
            prepare='make the labels with tools/prepare/coco_stuff.py',
            **_COCO,
        ),
        Benchmark(
            'a847',
            'ADE20K-847',
            ADE20K847Dataset,
            'ADE20K_2021_17_01',
            dict(
                img_path='images_detectron2/validation',
                seg_map_path='annotations_detectron2/validation',
            ),
            num_labels=847,
            counts=(2000,),
            prepare='make the labels with tools/prepare/ade20k_847.py',
            ignore_index=65535,
            needs=('classes_847.json',),
        ),
        Benchmark(
            'pc459',
            'Context459',
            PascalContext459Dataset,
            VOC2010,
            dict(img_path='JPEGImages', seg_map_path='annotations_detectron2/pc459_val'),
            num_labels=459,
            counts=CONTEXT_COUNTS,
            prepare='make the labels with tools/prepare/pascal_context_459.py',
            ignore_index=65535,
            needs=('labels.txt',),
        ),
        Benchmark(
            'voc20b',
            'VOC20b',
            PascalVOC20bDataset,
            num_labels=21,
            num_classes=21,
            **_VOC,
        ),
        Benchmark(
            'coco-panoptic',
            'COCO-Panoptic',
            CocoPanopticSegDataset,
            'coco',
            dict(img_path='val2017', seg_map_path='annotations/panoptic_val2017'),
            num_labels=None,
            counts=(5000,),
            prepare='unpack panoptic_annotations_trainval2017.zip',
            ann_file='annotations/panoptic_val2017.json',
        ),
    )
}

ALIASES = {
    'context59': 'pc59',
    'context60': 'pc60',
    'context459': 'pc459',
    'ade150': 'a150',
    'ade847': 'a847',
    'city': 'cityscapes',
    'object': 'coco-object',
    'stuff': 'coco-stuff',
}
# Columns of the training-free papers, and of CAT-Seg.
TRAINING_FREE = (
    'voc21',
    'pc60',
    'coco-object',
    'voc20',
    'cityscapes',
    'pc59',
    'a150',
    'coco-stuff',
)
CAT_SEG = ('a847', 'pc459', 'a150', 'pc59', 'voc20', 'voc20b')
GROUPS = {'training-free': TRAINING_FREE, 'cat-seg': CAT_SEG}


def get_benchmark(name: str) -> Benchmark:
    """Return the benchmark of a name or alias.

    Raises:
        ValueError: If there is none.
    """
    found = BENCHMARKS.get(ALIASES.get(name, name))
    if found is None:
        raise ValueError(
            f'expected a benchmark out of {sorted(BENCHMARKS)} (or {sorted(ALIASES)}), got {name!r}'
        )
    return found


def parse_benchmarks(text: str) -> tuple[Benchmark, ...]:
    """Read names separated by commas; ``'training-free'`` and ``'cat-seg'`` stand for a table.

    Raises:
        ValueError: If a name is unknown or there is none.
    """
    names = [part.strip() for part in text.split(',') if part.strip()]
    flat = [one for name in names for one in GROUPS.get(name, (name,))]
    if not flat:
        raise ValueError(f'expected names of benchmarks, as in "a150,voc20", got {text!r}')
    return tuple({b.name: b for b in map(get_benchmark, flat)}.values())
