"""SCDHook without a host: what a teacher of another family is shown."""

from __future__ import annotations

import pytest
import torch
from mmengine.registry import MODELS
from torch import nn

from refineclip.distill.hooks import SCDHook

from .toys import PATCH, SIZE, STUDENT

SMALL = dict(img_size=56, embed_dim=24, depth=2, num_heads=2)
TEACHER = dict(
    type='RefinerCLIP',
    model='timm/vit_base_patch14_reg1_tipsv2',
    model_kwargs=SMALL,
    dense_mode='plain',
)


def test_teacher_of_another_family(monkeypatch: pytest.MonkeyPatch) -> None:
    backbone = MODELS.build(dict(STUDENT, frozen=False)).train()
    hook = SCDHook(scd=dict(type='SCDLoss', roi_size=2), teacher=TEACHER)
    hook.teacher = MODELS.build(dict(TEACHER, frozen=True))
    embed, seen = hook.teacher.visual.embed, []
    monkeypatch.setattr(hook.teacher.visual, 'embed', lambda x: seen.append(x) or embed(x))
    # Grey of .5, normalised for CLIP; TIPSv2 takes pixels as they are.
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (backbone.image_mean, backbone.image_std))
    images = ((0.5 - mean) / std).expand(2, 3, SIZE, 2 * SIZE)
    hook._remember(backbone, (images,), backbone(images))
    losses = hook._add_loss(nn.Identity(), (), dict(mode='loss'), dict(loss_host=torch.ones(())))
    grid = SIZE // PATCH
    assert seen[0].shape == (2, 3, 14 * grid, 28 * grid)
    torch.testing.assert_close(seen[0], torch.full_like(seen[0], 0.5))
    assert set(losses) == {'loss_host', 'loss_scd'}
    losses['loss_scd'].backward()
    assert any(p.grad.abs().sum() > 0 for p in backbone.parameters() if p.grad is not None)
