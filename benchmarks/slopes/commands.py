"""The evaluations of ``python -m refineclip evaluate`` on drawn images and random weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from refineclip.datasets.microworld import write_split
from refineclip.datasets.microworld.vocabulary import NAMES
from refineclip.encoders import build_clip

CONFIGS = Path(__file__).resolve().parents[2] / 'configs'
SPLIT = 'val2017'
# A ViT-B/16 of 2 blocks, whose cost for an image has the parts of the whole tower's.
TOWER: dict[str, Any] = dict(
    embed_dim=512,
    vision_cfg=dict(image_size=224, layers=2, width=768, patch_size=16),
    text_cfg=dict(context_length=77, vocab_size=49408, width=512, heads=8, layers=1),
)
DETECTOR = CONFIGS / 'microworld' / 'fvit_microworld.py'
SEGMENTOR = """
default_scope = 'mmseg'
custom_imports = dict(imports=['refineclip.encoders', 'refineclip.segmentation'])
model = dict(
    type='TextSegmentor',
    backbone=dict(type='RefinerCLIP', model={model!r}, pretrained={model!r}),
    text=dict(model={model!r}, pretrained={model!r}, templates=['a {{}}']),
    test_cfg=dict(mode='slide', crop_size={pixels}, stride={pixels}),
)
test_dataloader = dict(
    batch_size=1,
    num_workers=0,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='BaseSegDataset',
        pipeline=[
            dict(type='LoadImageFromFile'),
            dict(type='Resize', scale=({pixels}, {pixels})),
            dict(type='LoadAnnotations'),
            dict(type='PackSegInputs'),
        ],
    ),
)
"""
# What every evaluation holds of an image or at once, and so what bounds its memory.
BOUNDS = {
    'regions': 'one image with its crops; 5 classes a region, way and row',
    'spatial': '200,000 tokens (gk), 256 MiB of maps, one affinity matrix; 6 bytes a token',
    'image': 'one batch; an embedding an image (2 KiB)',
    'segmentation': 'one image; 4 numbers a class and image',
    'synonyms': 'one image; its boxes',
}
KINDS = tuple(BOUNDS)


def write_set(root: Path, num_images: int) -> Path:
    """Draw a set in the COCO layout; returns its folder, named ``coco``."""
    return write_split(root / str(num_images) / 'coco', SPLIT, num_images)


def write_models(root: Path, pixels: int) -> None:
    """Write the tower as open_clip does, and the configs and the checkpoint that need mm*."""
    torch.manual_seed(0)
    folder = root / 'clip'
    folder.mkdir()
    (folder / 'open_clip_config.json').write_text(json.dumps({'model_cfg': TOWER}))
    state = build_clip(TOWER).state_dict()
    state = {key.replace('visual.model.', 'visual.'): value for key, value in state.items()}
    torch.save(state, folder / 'open_clip_pytorch_model.bin')
    text = SEGMENTOR.format(model=f'local-dir:{folder}', pixels=pixels)
    (root / 'segmentor.py').write_text(text)


def write_detector(root: Path) -> None:
    """Write an untrained F-ViT; apart from the rest, since it needs mmdet."""
    from mmengine.config import Config
    from mmengine.registry import MODELS, DefaultScope

    cfg = Config.fromfile(DETECTOR)
    with DefaultScope.overwrite_default_scope('mmdet'):
        model = MODELS.build(cfg.model)
    torch.save(dict(meta={}, state_dict=model.state_dict()), root / 'detector.pth')
    (root / 'synonyms.txt').write_text(''.join(f'{name}; a {name}\n' for name in NAMES))


def arguments(kind: str, root: Path, num_images: int, pixels: int) -> list[str]:
    """Arguments of ``evaluate`` for a kind on the set of ``num_images``."""
    data = root / str(num_images) / 'coco'
    annotations = data / 'annotations'
    model = f'local-dir:{root / "clip"}'
    rows = ['--model', model, '--models', f'row={model}']
    size = ['--image-size', str(pixels)]
    panoptic = ['--data', str(data), *rows, *size]
    found = {
        'regions': [*panoptic, '--templates', 'photo'],
        'spatial': panoptic,
        'image': [
            *('--captions', str(annotations / f'captions_{SPLIT}.json')),
            *('--image-root', str(data / SPLIT), *rows, *size, '--batch-size', '8'),
        ],
        'segmentation': [
            *(str(root / 'segmentor.py'), '--data-root', str(data.parent)),
            *('--benchmarks', 'coco-panoptic', '--work-dir', str(root / f'work-{num_images}')),
        ],
        'synonyms': [
            *(str(DETECTOR), str(root / 'detector.pth'), '--synonyms', str(root / 'synonyms.txt')),
            *('--work-dir', str(root / f'boxes-{num_images}'), '--cfg-options'),
            f'test_dataloader.dataset.data_root={data}',
            f'test_dataloader.dataset.ann_file=annotations/instances_{SPLIT}.json',
            f'test_dataloader.dataset.data_prefix.img={SPLIT}/',
            f'test_evaluator.ann_file={annotations / f"instances_{SPLIT}.json"}',
            'test_dataloader.batch_size=1',
            'log_level=ERROR',
        ],
    }
    return [kind, *found[kind]]
