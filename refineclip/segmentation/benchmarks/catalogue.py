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

from .benchmark import PROTOCOLS, Benchmark
from .datasets import (
    ADE20K847Dataset,
    CATSegContext59Dataset,
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
# CAT-Seg's prepare_voc.py reads the labels of SBD's archive, also for val.
_VOC_AUG: dict[str, Any] = {
    **_VOC,
    'data_prefix': dict(img_path='JPEGImages', seg_map_path='SegmentationClassAug'),
    'prepare': 'unpack VOCtrainval_11-May-2012.tar and SegmentationClassAug.zip',
}
_ADE: dict[str, Any] = dict(
    title='ADE20K-150',
    dataset=ADE20KDataset,
    data_root='ade/ADEChallengeData2016',
    data_prefix=dict(img_path='images/validation', seg_map_path='annotations/validation'),
    num_labels=150,
    counts=(2000,),
    prepare='unpack ADEChallengeData2016.zip',
)
_COCO: dict[str, Any] = dict(
    data_root='coco_stuff164k',
    data_prefix=dict(img_path='images/val2017', seg_map_path='annotations/val2017'),
    counts=(5000,),
)

_TRAINING_FREE: tuple[dict[str, Any], ...] = (
    dict(
        name='voc21',
        title='VOC21',
        dataset=PascalVOCDataset,
        num_labels=21,
        has_background=True,
        **_VOC,
    ),
    dict(
        name='pc60',
        title='Context60',
        dataset=PascalContextDataset,
        num_labels=60,
        has_background=True,
        **_CONTEXT,
    ),
    dict(
        name='coco-object',
        title='COCO-Object',
        dataset=COCOObjectDataset,
        num_labels=81,
        has_background=True,
        prepare='make the labels with tools/prepare/coco_object.py',
        **_COCO,
    ),
    dict(name='voc20', title='VOC20', dataset=PascalVOC20Dataset, num_labels=20, **_VOC),
    dict(
        name='cityscapes',
        title='Cityscapes',
        dataset=CityscapesDataset,
        data_root='cityscapes',
        data_prefix=dict(img_path='leftImg8bit/val', seg_map_path='gtFine/val'),
        num_labels=19,
        counts=(500,),
        prepare='make the labels with tools/prepare/cityscapes.py',
    ),
    dict(name='pc59', title='Context59', dataset=PascalContextDataset59, num_labels=59, **_CONTEXT),
    dict(name='a150', **_ADE),
    dict(
        name='coco-stuff',
        title='COCO-Stuff',
        dataset=COCOStuffDataset,
        num_labels=171,
        prepare='make the labels with tools/prepare/coco_stuff.py',
        **_COCO,
    ),
)
_CAT_SEG: tuple[dict[str, Any], ...] = (
    dict(
        name='a847',
        title='ADE20K-847',
        dataset=ADE20K847Dataset,
        data_root='ADE20K_2021_17_01',
        data_prefix=dict(
            img_path='images_detectron2/validation',
            seg_map_path='annotations_detectron2/validation',
        ),
        num_labels=847,
        counts=(2000,),
        prepare='make the labels with tools/prepare/ade20k_847.py',
        ignore_index=65535,
        needs=('classes_847.json',),
    ),
    dict(
        name='pc459',
        title='Context459',
        dataset=PascalContext459Dataset,
        data_root=VOC2010,
        data_prefix=dict(img_path='JPEGImages', seg_map_path='annotations_detectron2/pc459_val'),
        num_labels=459,
        counts=CONTEXT_COUNTS,
        prepare='make the labels with tools/prepare/pascal_context_459.py',
        ignore_index=65535,
        needs=('labels.txt',),
    ),
    dict(name='a150', **_ADE),
    dict(name='pc59', title='Context59', dataset=CATSegContext59Dataset, num_labels=59, **_CONTEXT),
    dict(name='voc20', title='VOC20', dataset=PascalVOC20Dataset, num_labels=20, **_VOC_AUG),
    dict(
        name='voc20b',
        title='VOC20b',
        dataset=PascalVOC20bDataset,
        num_labels=21,
        num_classes=21,
        **_VOC_AUG,
    ),
)
_OURS: tuple[dict[str, Any], ...] = (
    dict(
        name='coco-panoptic',
        title='COCO-Panoptic',
        dataset=CocoPanopticSegDataset,
        data_root='coco',
        data_prefix=dict(img_path='val2017', seg_map_path='annotations/panoptic_val2017'),
        num_labels=None,
        counts=(5000,),
        prepare='unpack panoptic_annotations_trainval2017.zip',
        ann_file='annotations/panoptic_val2017.json',
    ),
)

# By their keys, 'training-free/a150' and 'cat-seg/a150'; in the order of the tables' columns.
BENCHMARKS: dict[str, Benchmark] = {
    benchmark.key: benchmark
    for protocol, own in zip(PROTOCOLS, (_TRAINING_FREE, _CAT_SEG, _OURS), strict=True)
    for benchmark in (Benchmark(protocol=protocol, **one) for one in own)
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


def get_benchmark(name: str) -> Benchmark:
    """Return the benchmark of a key, or of a name or alias that one table has.

    Raises:
        ValueError: If there is none, or both tables have it.
    """
    found = _find(name)
    if len(found) > 1:
        raise ValueError(f'expected one of {[one.key for one in found]}, got {name!r}')
    return found[0]


def parse_benchmarks(text: str, protocol: str | None = None) -> tuple[Benchmark, ...]:
    """Read names separated by commas; ``'training-free'`` and ``'cat-seg'`` stand for a table.

    Args:
        text: Names, aliases, tables, or keys as ``'cat-seg/a150'``.
        protocol: Which benchmark a name of both tables stands for; None takes both.

    Raises:
        ValueError: If a name is unknown or there is none.
    """
    names = [part.strip() for part in text.split(',') if part.strip()]
    if not names:
        raise ValueError(f'expected names of benchmarks, as in "a150,voc20", got {text!r}')
    chosen: dict[str, Benchmark] = {}
    for name in names:
        if name in PROTOCOLS:
            found = [one for one in BENCHMARKS.values() if one.protocol == name]
        else:
            found = _find(name)
            # Of one table only: that one, whatever the protocol of the others.
            found = [one for one in found if one.protocol == protocol] or found
        chosen.update({one.key: one for one in found})
    return tuple(chosen.values())


def _find(name: str) -> list[Benchmark]:
    """Benchmarks of a key, a name or an alias, one or more."""
    if name in BENCHMARKS:
        return [BENCHMARKS[name]]
    short = ALIASES.get(name, name)
    found = [one for one in BENCHMARKS.values() if one.name == short]
    if not found:
        known = sorted({one.name for one in BENCHMARKS.values()})
        raise ValueError(
            f'expected a benchmark out of {known} (or {sorted(ALIASES)}), got {name!r}; '
            '"cat-seg/a150" is that of one table'
        )
    return found
