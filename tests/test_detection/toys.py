"""A toy F-ViT on the microworld's tiny CLIP, and drawn images in COCO's layout."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config, ConfigDict
from mmengine.registry import MODELS, DefaultScope
from torch.nn import functional as F

ROOT = Path(__file__).resolve().parents[2]
CONFIG = ROOT / 'configs' / 'detection' / 'toy' / 'fvit_microworld-clip_1xb4-30i_ov-coco-128.py'
NAMES = ('fish', 'boat', 'house', 'tree')
BASE = ('fish', 'boat', 'house')


def embeddings(count: int, dim: int = 128) -> torch.Tensor:
    return F.normalize(torch.randn(count, dim, generator=torch.Generator().manual_seed(7)), dim=1)


def model_config(**changes: Any) -> ConfigDict:
    """The model of the toy config, with random text and without weights."""
    model = Config.fromfile(CONFIG).model
    model.backbone.pretrained = None
    model.roi_head.bbox_head.classifier.update(
        names=list(NAMES),
        base_names=list(BASE),
        text=dict(text_embeddings=embeddings(len(NAMES) + 1)),
    )
    for key, value in changes.items():
        node = model
        *path, last = key.split('__')
        for name in path:
            node = node[name]
        node[last] = value
    return model


def build(**changes: Any) -> Any:
    with DefaultScope.overwrite_default_scope('mmdet'):
        torch.manual_seed(0)
        return MODELS.build(model_config(**changes))


def batch(size: int = 64, count: int = 2, label: int = 0) -> dict[str, Any]:
    """Noise images with one box each."""
    from mmdet.structures import DetDataSample
    from mmengine.structures import InstanceData

    samples = []
    for index in range(count):
        sample = DetDataSample(
            metainfo=dict(
                img_shape=(size, size),
                ori_shape=(size, size),
                scale_factor=(1.0, 1.0),
                img_id=index,
            )
        )
        sample.gt_instances = InstanceData(
            bboxes=torch.tensor([[8.0, 8.0, 40.0, 48.0]]), labels=torch.tensor([label])
        )
        samples.append(sample)
    images = [torch.randint(0, 256, (3, size, size), dtype=torch.uint8) for _ in range(count)]
    return dict(inputs=images, data_samples=samples)


def write_drawn(root: Path, num_images: int = 8) -> tuple[str, ...]:
    """Draw images in COCO's layout, boxes of the last eight of 24 kinds held out of training."""
    from refineclip.datasets.microworld.coco_layout import write_split

    for split in ('train2017', 'val2017'):
        write_split(root, split, num_images)
    path = root / 'annotations' / 'instances_train2017.json'
    content = json.loads(path.read_text())
    names = [category['name'] for category in content['categories']]
    novel = {category['id'] for category in content['categories'][16:]}
    content['annotations'] = [a for a in content['annotations'] if a['category_id'] not in novel]
    (root / 'annotations' / 'base_train2017.json').write_text(json.dumps(content))
    return tuple(names)


def run_config(root: Path, work_dir: Path, size: int = 64) -> Config:
    """The toy config on drawn images."""
    names = write_drawn(root)
    cfg = Config.fromfile(CONFIG)
    metainfo = dict(classes=names, base_classes=names[:16], novel_classes=names[16:])
    train, test = 'base_train2017.json', 'instances_val2017.json'
    for phase, file in (('train', train), ('val', test), ('test', test)):
        dataset = cfg[f'{phase}_dataloader'].dataset
        dataset.update(data_root=str(root), ann_file=f'annotations/{file}', metainfo=metainfo)
        for step in dataset.pipeline:
            if step['type'] == 'Resize':
                step['scale'] = (size, size)
    for phase in ('val', 'test'):
        cfg[f'{phase}_evaluator'].ann_file = str(root / 'annotations' / test)
    cfg.model.roi_head.bbox_head.classifier.update(names=list(names), base_names=list(names[:16]))
    return quiet(cfg, work_dir)


def quiet(cfg: Config, work_dir: Path) -> Config:
    """What a test changes in any run."""
    cfg.work_dir = str(work_dir)
    cfg.log_level = 'ERROR'
    cfg.model.roi_head.bbox_head.classifier.text.cache_dir = str(work_dir / 'text')
    cfg.experiment_name = f'{work_dir.name}-{len(list(work_dir.parent.iterdir()))}'
    return cfg
