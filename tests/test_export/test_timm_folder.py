from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from timm.models import register_model
from timm.models.vision_transformer import _create_vision_transformer
from torch import nn

from refineclip.export.compare import drawn_picture, normalize_pixels, require_equal, sample_pixels
from refineclip.export.subject import load_subject
from refineclip.export.timm_folder import export_timm
from tests.test_encoders.conftest import SIGLIP, SIZE, TEXT

from .toys import assert_no_pickle, files, randomize, toy_folder


def test_timm_loads_a_tower_of_its_own(tmp_path: Path) -> None:
    subject = load_subject('timm/test_vit', 'random')
    randomize(subject.encoder.visual)
    out = tmp_path / 'out'
    out.mkdir()
    require_equal(export_timm(subject, out, drawn_picture()))
    assert files(out) == {'config.json', 'model.safetensors'}
    assert_no_pickle(out)
    loaded = timm.create_model(f'local-dir:{out}', pretrained=True).eval()
    images = torch.rand(2, 3, 160, 160)
    with torch.no_grad():
        torch.testing.assert_close(loaded(images), subject.encoder.image_embedding(images))
    assert loaded.pretrained_cfg['mean'] == pytest.approx(subject.encoder.image_mean)


@register_model
def refineclip_toy_exported(pretrained: bool = False, **kwargs: Any) -> nn.Module:
    sizes = dict(patch_size=16, class_token=False, global_pool='map', **SIZE)
    name = 'vit_base_patch16_siglip_224'
    return _create_vision_transformer(name, pretrained=pretrained, **{**sizes, **kwargs})


def test_a_tower_in_open_clip_keeps_its_size_and_normalisation(tmp_path: Path) -> None:
    vision = dict(SIGLIP, timm_model_name='refineclip_toy_exported')
    model = toy_folder(tmp_path / 'toy', dict(embed_dim=32, vision_cfg=vision, text_cfg=TEXT))
    subject = load_subject(model, model, text=False)
    out = tmp_path / 'out'
    out.mkdir()
    # A toy's sizes are in no name of timm but in its own.
    subject.encoder.visual.trunk.pretrained_cfg['architecture'] = 'refineclip_toy_exported'
    require_equal(export_timm(subject, out, drawn_picture()))
    loaded = timm.create_model(f'local-dir:{out}', pretrained=True)
    assert loaded.pretrained_cfg['mean'] == [0.4, 0.5, 0.6]
    assert loaded.patch_embed.img_size == (64, 64)


def test_a_tower_of_open_clip_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="which is open_clip's own; export it as open-clip"):
        export_timm(load_subject('microworld-clip', 'shipped'), tmp_path, drawn_picture())


def test_pixels_are_normalised_as_the_tower_says() -> None:
    visual = load_subject('timm/test_vit', 'random').encoder.visual
    pixels = sample_pixels((32, 32), drawn_picture())['picture']
    expected = (pixels[0, 1, 3, 5] - visual.image_mean[1]) / visual.image_std[1]
    assert normalize_pixels(pixels, visual)[0, 1, 3, 5] == pytest.approx(float(expected))
