"""Data sets and config bases of open-vocabulary detection, on drawn files in the real layouts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DATASETS, METRICS, DefaultScope

from refineclip.datasets.ov_splits import get_split
from tests.test_detection.toy_annotations import (
    annotations,
    coco_categories,
    lvis_categories,
    write_images,
    write_json,
)

pytestmark = pytest.mark.mm

CLASSES = get_split('ov-coco').classes
BASES = Path(__file__).resolve().parents[2] / 'configs' / '_base_' / 'datasets'


@pytest.fixture(autouse=True)
def mmdet_scope() -> None:
    from refineclip.detection import ov_datasets, ov_metrics  # noqa: F401  (registers)

    DefaultScope.get_instance('ov-data', scope_name='mmdet')


def coco_root(tmp_path: Path, names: tuple[str, ...] = CLASSES) -> Path:
    """A folder like data/coco, with four training and four test images."""
    content = annotations(coco_categories(names), num_images=4, per_image=20)
    for part, name in (
        ('train', 'zero-shot/instances_train2017_seen_2_65_cat.json'),
        ('val', 'zero-shot/instances_val2017_all_2.json'),
        ('val', 'annotations/instances_val2017.json'),
    ):
        write_json(tmp_path / name, content)
        write_images(tmp_path / f'{part}2017', content)
    return tmp_path


def coco_dataset(root: Path, **changes: Any) -> Any:
    config = dict(
        type='OVCocoDataset',
        data_root=str(root),
        ann_file='zero-shot/instances_train2017_seen_2_65_cat.json',
        data_prefix=dict(img='train2017/'),
        pipeline=[],
    )
    return DATASETS.build({**config, **changes})


def test_labels_follow_the_split(tmp_path: Path) -> None:
    root = coco_root(tmp_path)
    dataset = coco_dataset(root)
    assert dataset.metainfo['classes'] == CLASSES
    assert len(dataset.metainfo['base_classes']) == 48
    # The drawn categories take turns, 20 per image.
    assert dataset.get_cat_ids(1) == list(range(20, 40))


def test_a_file_with_80_categories_gives_the_same_65_labels(tmp_path: Path) -> None:
    names = get_split('coco').classes
    root = coco_root(tmp_path, names)
    dataset = coco_dataset(root)
    with_labels = [
        (CLASSES[instance['bbox_label']])
        for index in range(len(dataset))
        for instance in dataset.get_data_info(index)['instances']
    ]
    assert with_labels == [name for name in names if name in CLASSES]


def test_missing_categories_are_named(tmp_path: Path) -> None:
    # A file of the 48 base categories alone: mmdet would number them 0 to 47 without a word.
    root = coco_root(tmp_path, get_split('ov-coco').base)
    with pytest.raises(
        ValueError,
        match=r'seen_2_65_cat\.json: expected categories for all 65 classes, lacks 17: airplane, '
        r'bus, cat, .*scissors; .*tools/prepare',
    ):
        coco_dataset(root)


def test_another_order_of_categories(tmp_path: Path) -> None:
    root = coco_root(tmp_path, tuple(sorted(CLASSES)))
    with pytest.raises(ValueError, match=r"first difference at 0: 'person' expected, got 'airpl"):
        coco_dataset(root)


def test_missing_images_are_counted_and_the_first_is_named(tmp_path: Path) -> None:
    root = coco_root(tmp_path)
    for name in ('000000000002.jpg', '000000000004.jpg'):
        (root / 'train2017' / name).unlink()
    with pytest.raises(
        FileNotFoundError,
        match=r'its 4 images on the disk, 2 are missing \(2 of .*train2017\), first .*0002\.jpg',
    ):
        coco_dataset(root)


def test_missing_image_folder(tmp_path: Path) -> None:
    root = coco_root(tmp_path)
    with pytest.raises(FileNotFoundError, match=r'4 are missing \(4 of .*train2016\)'):
        coco_dataset(root, data_prefix=dict(img='train2016/'))


def test_missing_annotation_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r'make it with python tools/prepare/ov_coco\.py'):
        coco_dataset(tmp_path)


def test_remote_images_are_not_looked_for() -> None:
    from refineclip.detection.ov_datasets import check_images

    check_images('val.json', ['s3://bucket/1.jpg'], dict(backend='petrel'))
    with pytest.raises(FileNotFoundError):
        check_images('val.json', ['nowhere/1.jpg'], None)


def lvis_root(tmp_path: Path, categories: list[dict[str, Any]] | None = None) -> Path:
    """A folder like data/lvis_v1; the images of both parts lie in val2017, as the file says."""
    content = annotations(categories or lvis_categories(), num_images=3, per_image=5, lvis=True)
    for name in ('lvis_v1_train_seen_1203_cat', 'lvis_v1_val'):
        write_json(tmp_path / 'annotations' / f'{name}.json', content)
    write_images(tmp_path / 'val2017', content)
    return tmp_path


def lvis_dataset(root: Path) -> Any:
    return DATASETS.build(
        dict(
            type='OVLVISDataset',
            data_root=str(root),
            ann_file='annotations/lvis_v1_val.json',
            data_prefix=dict(img=''),
            pipeline=[],
        )
    )


def test_lvis_labels_and_split(tmp_path: Path) -> None:
    pytest.importorskip('lvis')
    dataset = lvis_dataset(lvis_root(tmp_path))
    assert (len(dataset), len(dataset.metainfo['classes'])) == (3, 1203)
    assert len(dataset.metainfo['novel_classes']) == 337
    assert dataset.get_cat_ids(1) == [5, 6, 7, 8, 9]


def test_lvis_without_its_rare_categories(tmp_path: Path) -> None:
    pytest.importorskip('lvis')
    seen = [category for category in lvis_categories() if category['frequency'] != 'r']
    with pytest.raises(ValueError, match=r'all 1203 classes, lacks 337: applesauce, apricot'):
        lvis_dataset(lvis_root(tmp_path, seen))


def test_our_lists_are_mmdets() -> None:
    from mmdet.datasets import CocoDataset, LVISV1Dataset, Objects365V1Dataset, VOCDataset

    for name, dataset in (('coco', CocoDataset), ('ov-lvis', LVISV1Dataset)):
        assert get_split(name).classes == tuple(dataset.METAINFO['classes'])
    for name, dataset in (('objects365', Objects365V1Dataset), ('voc', VOCDataset)):
        theirs = [''.join(each.split()) for each in dataset.METAINFO['classes']]
        assert [''.join(each.split()) for each in get_split(name).classes] == theirs


@pytest.mark.parametrize(
    ('stem', 'split', 'size'),
    [
        ('ov-coco_detection', 'ov-coco', 640),
        ('ov-coco_detection-896', 'ov-coco', 896),
        ('ov-lvis_detection', 'ov-lvis', 1024),
        ('ov-lvis_detection-896', 'ov-lvis', 896),
        ('transfer-coco_detection', 'coco', 896),
    ],
)
def test_config_base_reads_the_real_layout(
    tmp_path: Path, stem: str, split: str, size: int
) -> None:
    pytest.importorskip('lvis')
    cfg = Config.fromfile(BASES / f'{stem}.py')
    root = lvis_root(tmp_path) if 'lvis' in stem else coco_root(tmp_path)
    if split == 'coco':
        root = coco_root(tmp_path, get_split('coco').classes)
    for part in ('train', 'test'):
        if f'{part}_dataloader' not in cfg:
            continue
        config = cfg[f'{part}_dataloader'].dataset
        config.data_root = str(root)
        dataset = DATASETS.build(config)
        assert dataset.metainfo['classes'] == get_split(split).classes
        item = dataset[0]
        height, width = item['inputs'].shape[-2:]
        assert max(height, width) <= size
        if part == 'test':
            assert width == size
    evaluator = cfg.test_evaluator
    evaluator.ann_file = evaluator.ann_file.replace(cfg.data_root, f'{root}/')
    METRICS.build(evaluator)


def test_convention_of_80_labels(tmp_path: Path) -> None:
    """Base and novel classes have evaluators of their own, which see the same predictions."""
    names = get_split('coco').classes
    root = coco_root(tmp_path, names)
    content = json.loads((root / 'annotations' / 'instances_val2017.json').read_text())
    split = get_split('ov-coco-80')
    for part, classes in (('base', split.base), ('novel', split.novel)):
        ids = {c['id'] for c in content['categories'] if c['name'] in classes}
        rows = [row for row in content['annotations'] if row['category_id'] in ids]
        name = f'instances_val2017_{part}.json'
        write_json(root / 'zero-shot' / name, {**content, 'annotations': rows})
    cfg = Config.fromfile(BASES / 'ov-coco-80_detection.py')
    cfg.test_dataloader.dataset.data_root = str(root)
    dataset = DATASETS.build(cfg.test_dataloader.dataset)
    perfect = []
    for index in range(len(dataset)):
        sample = dataset[index]['data_samples']
        truth = sample.gt_instances
        boxes = truth.bboxes.tensor  # loaded after resizing: pixels of the original image
        found = dict(bboxes=boxes, labels=truth.labels, scores=torch.ones(len(boxes)))
        novel = [names[label] in split.novel for label in truth.labels.tolist()]
        kept = {key: value[torch.tensor(novel)] for key, value in found.items()}
        perfect.append(dict(img_id=sample.img_id, ori_shape=sample.ori_shape, pred_instances=kept))
    for config in cfg.test_evaluator:
        config.ann_file = config.ann_file.replace(cfg.data_root, f'{root}/')
        metric = METRICS.build(config)
        metric.dataset_meta = dataset.metainfo
        metric.process({}, perfect)
        (score,) = [v for k, v in metric.evaluate(len(perfect)).items() if k.endswith('mAP_50')]
        assert score == (1.0 if config.prefix == 'novel' else 0.0)


@pytest.mark.parametrize('stem', ['transfer-objects365_detection', 'transfer-voc_detection'])
def test_transfer_base_names_mmdets_parts(stem: str) -> None:
    cfg = Config.fromfile(BASES / f'{stem}.py')
    import mmdet.datasets
    import mmdet.evaluation

    assert hasattr(mmdet.datasets, cfg.test_dataloader.dataset.type)
    assert hasattr(mmdet.evaluation, cfg.test_evaluator.type)
    assert 'split' not in cfg.test_dataloader.dataset
    assert cfg.test_dataloader.dataset.pipeline[0].type == 'LoadUprightImage'


@pytest.mark.parametrize('part', ['train', 'val'])
def test_real_coco_subset(shared_data: Path, part: str) -> None:
    dataset = coco_dataset(
        shared_data / 'coco',
        ann_file=f'annotations/instances_{part}2017.json',
        data_prefix=dict(img=f'{part}2017/'),
    )
    assert len(dataset) == {'train': 100, 'val': 70}[part]
