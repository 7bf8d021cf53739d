"""Every family at its real size, with random weights, against the untouched library."""

from __future__ import annotations

import open_clip
import pytest
import timm
import torch
from open_clip.model import _build_vision_tower

from refineclip.encoders.build import build_clip


@pytest.mark.slow
@pytest.mark.parametrize(
    'name',
    [
        'ViT-B-16',
        'EVA02-B-16',
        'ViT-B-16-SigLIP',
        'timm/vit_small_patch14_dinov2',
        'timm/vit_small_patch14_reg4_dinov2',
        'timm/vit_small_patch16_dinov3',
        'ViT-B-16-SigLIP2',
        'PE-Core-B-16',
        'ViT-L-14-worldwide',
        'MobileCLIP2-B',
        'MobileCLIP2-L-14',
        'timm/vit_pe_spatial_base_patch16_512',
        'timm/vit_base_patch16_radio_v3',
        'timm/vit_base_patch14_reg1_tipsv2',
    ],
)
def test_real_size_equals_library(name: str) -> None:
    visual = build_clip(name, text=False).visual.eval()
    if name.startswith('timm/'):
        library = timm.create_model(name.removeprefix('timm/'), num_classes=0)
    else:
        config = open_clip.get_model_config(name)
        library = _build_vision_tower(config['embed_dim'], config['vision_cfg'])
    library.load_state_dict(visual.model.state_dict(), strict=True)
    library.eval()
    images = torch.randn(1, 3, *visual.native_size)
    ours, theirs = visual.image_embedding(images), library(images)
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    ours.square().sum().backward()
    theirs.square().sum().backward()
    grads = {key: p.grad for key, p in visual.model.named_parameters()}
    for key, parameter in library.named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(grads[key], parameter.grad, atol=1e-4, rtol=1e-4)
