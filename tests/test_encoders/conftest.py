"""Toy models of every family, small enough to run in milliseconds."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import timm
from timm.models import register_model
from timm.models.vision_transformer_hybrid import ConvStem, _create_vision_transformer_hybrid
from torch import nn

SIZE = dict(img_size=64, embed_dim=32, depth=3, num_heads=2)


# open_clip's configs take the name of a timm model but no sizes for it.
@register_model
def refineclip_toy_eva02(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    return timm.create_model('eva02_base_patch16_clip_224', **{**SIZE, **kwargs})


@register_model
def refineclip_toy_siglip(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    return timm.create_model('vit_base_patch16_siglip_224', **{**SIZE, **kwargs})


@register_model
def refineclip_toy_pe_core(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    toy = dict(SIZE, ref_feat_shape=(4, 4), attn_pool_num_heads=2)
    return timm.create_model('vit_pe_core_base_patch16_224', **{**toy, **kwargs})


@register_model
def refineclip_toy_mobileclip_b(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    stem = ConvStem(
        channels=(8, 8, 32), stride=(4, 2, 2), kernel_size=(4, 2, 2), padding=0, act_layer=nn.GELU
    )
    kwargs = {**SIZE, 'no_embed_class': True, 'embed_args': dict(proj=False), **kwargs}
    return _create_vision_transformer_hybrid('vit_base_mci_224', backbone=stem, **kwargs)


@register_model
def refineclip_toy_mobileclip_l(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    toy = dict(SIZE, img_size=56)
    return timm.create_model('vit_large_patch14_clip_224', **{**toy, **kwargs})


TEXT = dict(context_length=16, vocab_size=49408, width=16, heads=2, layers=1)
NATIVE = dict(image_size=64, layers=3, width=32, head_width=16, patch_size=16, mlp_ratio=2.0)
EVA = dict(image_size=64, timm_model_name='refineclip_toy_eva02', timm_pool='token', timm_proj=None)
SIGLIP = dict(
    image_size=64, timm_model_name='refineclip_toy_siglip', timm_pool='map', timm_proj='none'
)
PE_CORE = dict(SIGLIP, timm_model_name='refineclip_toy_pe_core', timm_proj=None)
MOBILECLIP_B = dict(EVA, timm_model_name='refineclip_toy_mobileclip_b')
MOBILECLIP_L = dict(EVA, timm_model_name='refineclip_toy_mobileclip_l', image_size=56)
CONFIGS: dict[str, dict[str, Any]] = {
    'open_clip': dict(embed_dim=24, vision_cfg=NATIVE, text_cfg=TEXT),
    'quick_gelu': dict(embed_dim=24, vision_cfg=NATIVE, text_cfg=TEXT, quick_gelu=True),
    'eva02': dict(embed_dim=24, vision_cfg=EVA, text_cfg=TEXT),
    'siglip': dict(embed_dim=32, vision_cfg=SIGLIP, text_cfg=TEXT, init_logit_bias=-10.0),
    'pe_core': dict(embed_dim=24, vision_cfg=PE_CORE, text_cfg=TEXT),
    'mobileclip_b': dict(embed_dim=24, vision_cfg=MOBILECLIP_B, text_cfg=TEXT),
    'mobileclip_l': dict(embed_dim=24, vision_cfg=MOBILECLIP_L, text_cfg=TEXT),
}


@pytest.fixture
def toy_configs() -> dict[str, dict[str, Any]]:
    """Inline open_clip configs by family: ``CONFIGS``."""
    return copy.deepcopy(CONFIGS)
