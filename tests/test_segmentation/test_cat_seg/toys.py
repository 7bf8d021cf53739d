"""The smallest CAT-Segs: a random tower with a real tokenizer, or the shipped one."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.registry import MODELS
from mmengine.structures import PixelData
from torch import Tensor, nn

import refineclip.segmentation  # noqa: F401
from refineclip.segmentation.cat_seg.cost_aggregation import CostAggregator

TOWER = dict(
    embed_dim=12,
    vision_cfg=dict(image_size=32, layers=3, width=16, head_width=8, patch_size=8),
    text_cfg=dict(context_length=16, vocab_size=49408, width=16, heads=2, layers=2),
)
# Heads of 4 channels, windows of 2 on a grid of 4, padding to 6 classes.
AGGREGATOR = dict(
    embed_dims=16,
    guidance_dims=8,
    num_heads=4,
    window_size=2,
    pad_len=6,
    decoder_channels=(16, 16),
    decoder_guidance_channels=(4, 4),
    chunk=2,
)
NAMES = ('cat', 'dog', 'house')
WINDOWS = dict(mode='windows', size=64, window=48, stride=16)


def randomize(module: nn.Module) -> nn.Module:
    """Give every parameter a value, so that nothing is hidden behind a zero."""
    generator = torch.Generator().manual_seed(0)
    for owner in module.modules():
        for name, parameter in owner.named_parameters(recurse=False):
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.data.copy_(noise * (0.3 if parameter.ndim > 1 else 0.1))
            if isinstance(owner, (nn.LayerNorm, nn.GroupNorm)) and name == 'weight':
                parameter.data += 1
    return module


def aggregator(**changes: Any) -> CostAggregator:
    """A random aggregator for embeddings of 12 channels, guidance of 6 and 5."""
    config = {**AGGREGATOR, 'text_dims': 12, 'decoder_guidance_in_channels': (6, 5), **changes}
    return randomize(CostAggregator(**config)).eval()


def aggregator_inputs(
    classes: int, batch: int = 2, grid: tuple[int, int] = (4, 4)
) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Image map, unit text embeddings, guidance."""
    generator = torch.Generator().manual_seed(classes)
    height, width = grid
    image = torch.randn(batch, 12, height, width, generator=generator)
    text = torch.randn(classes, 12, generator=generator)
    guidance = [
        torch.randn(batch, channels, factor * height, factor * width, generator=generator)
        for channels, factor in ((6, 2), (5, 4))
    ]
    return image, nn.functional.normalize(text, dim=-1), guidance


def cat_seg_cfg(
    model: Any = TOWER, out_indices: tuple[int, ...] = (0, 1, 2), **changes: Any
) -> dict:
    """Config of a toy CAT-Seg."""
    return {
        'type': 'CATSeg',
        'backbone': dict(
            type='RefinerCLIP',
            model=model,
            dense_mode='value-cls',
            out_indices=out_indices,
            frozen=False,
        ),
        'text_encoder': dict(type='PromptedTextEncoder', model=model),
        'decode_head': dict(
            type='CostAggregationHead', guidance_channels=(6, 5), aggregator=dict(AGGREGATOR)
        ),
        'vocabulary': NAMES,
        'input_size': (32, 32),
        'test_cfg': dict(WINDOWS),
        **changes,
    }


def cat_seg(**changes: Any) -> Any:
    """A toy CAT-Seg with random weights."""
    return randomize(MODELS.build(cat_seg_cfg(**changes)))


def batch(size: int = 2, side: int = 48, classes: int = 3) -> dict[str, Any]:
    """Images of noise with noise labels, as a data preprocessor leaves them."""
    from mmseg.structures import SegDataSample

    generator = torch.Generator().manual_seed(1)
    samples = []
    for _ in range(size):
        sample = SegDataSample(metainfo=dict(img_shape=(side, side), ori_shape=(side, side)))
        labels = torch.randint(0, classes, (1, side, side), generator=generator)
        sample.gt_sem_seg = PixelData(data=labels)
        samples.append(sample)
    return dict(inputs=torch.randn(size, 3, side, side, generator=generator), data_samples=samples)
