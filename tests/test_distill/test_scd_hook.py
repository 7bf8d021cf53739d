"""SCDHook without a host: what a teacher of another family is shown."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from mmengine.model import ImgDataPreprocessor
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


class Host(nn.Module):
    """Trains its backbone on images normalised as ImageNet's."""

    def __init__(self) -> None:
        super().__init__()
        self.data_preprocessor = ImgDataPreprocessor([123.675, 116.28, 103.53], [58.4, 57.1, 57.4])
        self.backbone = MODELS.build(dict(STUDENT, frozen=False))

    def forward(self, inputs: torch.Tensor, mode: str) -> dict[str, torch.Tensor]:
        return dict(loss_host=self.backbone(inputs)[-1].mean())


def test_teacher_sees_what_it_was_trained_on_whatever_the_host_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    host = Host().train()
    hook = SCDHook(scd=dict(type='SCDLoss', roi_size=2))
    runner = SimpleNamespace(model=host)
    hook.before_run(runner)
    hook.before_train(runner)
    visual = hook.teacher.visual
    embed, seen = visual.embed, []
    monkeypatch.setattr(visual, 'embed', lambda x: seen.append(x) or embed(x))
    grey = host.data_preprocessor(
        dict(inputs=[torch.full((3, SIZE, SIZE), 127, dtype=torch.uint8)])
    )
    assert set(host(torch.stack(list(grey['inputs'])), mode='loss')) == {'loss_host', 'loss_scd'}
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (visual.image_mean, visual.image_std))
    expected = ((127 / 255 - mean) / std).expand(1, 3, SIZE, SIZE)
    torch.testing.assert_close(seen[0], expected, atol=1e-5, rtol=1e-5)


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
