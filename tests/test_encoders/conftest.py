"""Toy models of every family, small enough to run in milliseconds."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import timm
from timm.models import register_model
from torch import nn

SIZE = dict(img_size=64, embed_dim=32, depth=3, num_heads=2)


# open_clip's configs take the name of a timm model but no sizes for it.
@register_model
def refineclip_toy_eva02(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    return timm.create_model('eva02_base_patch16_clip_224', **{**SIZE, **kwargs})


@register_model
def refineclip_toy_siglip(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    return timm.create_model('vit_base_patch16_siglip_224', **{**SIZE, **kwargs})


TEXT = dict(context_length=16, vocab_size=49408, width=16, heads=2, layers=1)
NATIVE = dict(image_size=64, layers=3, width=32, head_width=16, patch_size=16, mlp_ratio=2.0)
EVA = dict(image_size=64, timm_model_name='refineclip_toy_eva02', timm_pool='token', timm_proj=None)
SIGLIP = dict(
    image_size=64, timm_model_name='refineclip_toy_siglip', timm_pool='map', timm_proj='none'
)
CONFIGS: dict[str, dict[str, Any]] = {
    'open_clip': dict(embed_dim=24, vision_cfg=NATIVE, text_cfg=TEXT),
    'quick_gelu': dict(embed_dim=24, vision_cfg=NATIVE, text_cfg=TEXT, quick_gelu=True),
    'eva02': dict(embed_dim=24, vision_cfg=EVA, text_cfg=TEXT),
    'siglip': dict(embed_dim=32, vision_cfg=SIGLIP, text_cfg=TEXT, init_logit_bias=-10.0),
}


@pytest.fixture
def toy_configs() -> dict[str, dict[str, Any]]:
    """Inline open_clip configs by family: open_clip, quick_gelu, eva02, siglip."""
    return copy.deepcopy(CONFIGS)
