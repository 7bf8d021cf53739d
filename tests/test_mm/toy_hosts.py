"""Stock detectors and segmentors of mmdet and mmseg around a toy RefinerCLIP backbone."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any, ClassVar

import torch
from mmengine.config import Config
from mmengine.structures import InstanceData, PixelData
from open_clip import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD

import refineclip.distill
import refineclip.encoders  # noqa: F401

TOWER = dict(
    embed_dim=12,
    vision_cfg=dict(image_size=32, layers=4, width=16, head_width=8, patch_size=8),
    text_cfg=dict(context_length=8, vocab_size=49408, width=16, heads=2, layers=1),
)
# The channels and strides of the ResNet-50 that the stock configs expect.
BACKBONE = dict(
    type='RefinerCLIP',
    model=TOWER,
    out_indices=(0, 1, 2, 3),
    out_channels=(256, 512, 1024, 2048),
    frozen=False,
)


def stock_model(package: str, name: str) -> Config:
    """The model config that a library ships, with the normalisation of the tower."""
    folder = Path(importlib.import_module(package).__file__).parent / '.mim' / 'configs'
    model = Config.fromfile(folder / '_base_' / 'models' / name).model
    model.data_preprocessor.mean = [255 * value for value in OPENAI_DATASET_MEAN]
    model.data_preprocessor.std = [255 * value for value in OPENAI_DATASET_STD]
    return model


def detector(**backbone: Any) -> Config:
    """Mask R-CNN, R50-FPN."""
    model = stock_model('mmdet', 'mask-rcnn_r50_fpn.py')
    model.backbone = {**BACKBONE, 'out_strides': (4, 8, 16, 32), **backbone}
    return model


def segmentor(**backbone: Any) -> Config:
    """FCN, R50-D8 (the published file names SyncBN, which needs a GPU)."""
    model = stock_model('mmseg', 'fcn_r50-d8.py')
    model.data_preprocessor.size = (64, 64)
    model.pretrained = None  # the stock file names ResNet weights
    model.backbone = {**BACKBONE, **backbone}
    for head in (model.decode_head, model.auxiliary_head):
        head.norm_cfg = dict(type='BN')
    return model


class DetectionToys(torch.utils.data.Dataset):
    """Noise images with one box and mask each."""

    metainfo: ClassVar = dict(classes=('thing',))

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> dict[str, Any]:
        from mmdet.structures import DetDataSample
        from mmdet.structures.mask import BitmapMasks

        image = torch.randint(0, 256, (3, 64, 64), dtype=torch.uint8)
        masks = BitmapMasks(torch.ones(1, 64, 64, dtype=torch.uint8).numpy(), 64, 64)
        sample = DetDataSample(
            metainfo=dict(img_shape=(64, 64), ori_shape=(64, 64), scale_factor=(1.0, 1.0))
        )
        sample.gt_instances = InstanceData(
            bboxes=torch.tensor([[8.0, 8.0, 40.0, 48.0]]), labels=torch.tensor([0]), masks=masks
        )
        return dict(inputs=image, data_samples=sample)


class SegmentationToys(torch.utils.data.Dataset):
    """Noise images with two halves."""

    metainfo: ClassVar = dict(classes=('left', 'right'))

    def __len__(self) -> int:
        return 8

    def __getitem__(self, index: int) -> dict[str, Any]:
        from mmseg.structures import SegDataSample

        image = torch.randint(0, 256, (3, 64, 64), dtype=torch.uint8)
        labels = torch.zeros(1, 64, 64, dtype=torch.long)
        labels[..., 32:] = 1
        sample = SegDataSample(metainfo=dict(img_shape=(64, 64), ori_shape=(64, 64)))
        sample.gt_sem_seg = PixelData(data=labels)
        return dict(inputs=image, data_samples=sample)
