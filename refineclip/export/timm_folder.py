"""A folder that timm loads: ``create_model('local-dir:FOLDER', pretrained=True)``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import timm
import torch
from open_clip.timm_model import TimmModel
from PIL import Image
from timm.models import save_for_hf

from refineclip.encoders.towers.timm_vit import TimmViT

from .compare import Comparison, compare, normalize_pixels, sample_pixels
from .subject import Subject


def export_timm(subject: Subject, folder: Path, picture: Image.Image) -> list[Comparison]:
    """Write the image tower as timm's own, and load it with timm.

    What open_clip puts behind a tower of timm (a projection into the joint space) is not in it.

    Raises:
        ValueError: If the tower is none of timm's.
    """
    visual = subject.folded()
    if not isinstance(visual, TimmViT):
        raise ValueError(
            f"expected a tower of timm, got {subject.model}, which is open_clip's own; export it "
            'as open-clip, hf or onnx'
        )
    trunk = visual.trunk
    preprocessing = dict(mean=visual.image_mean, std=visual.image_std)
    save_for_hf(
        trunk,
        str(folder),
        model_config=dict(pretrained_cfg=preprocessing),
        model_args=_sizes(visual),
        safe_serialization=True,
    )
    return _load_back(visual, subject.encoder.dense_mode, folder, picture)


def _sizes(visual: TimmViT) -> dict[str, object]:
    """Arguments that a tower of another size than its name says is built with."""
    trunk = visual.trunk
    return dict(img_size=list(visual.native_size), num_classes=trunk.num_classes)


@torch.no_grad()
def _load_back(visual: TimmViT, mode: str, folder: Path, picture: Image.Image) -> list[Comparison]:
    loaded = timm.create_model(f'local-dir:{folder}', pretrained=True).eval()
    config = loaded.pretrained_cfg
    tower = TimmViT(loaded, config['mean'], config['std'], visual.position_interpolation).eval()
    trunk = visual.trunk
    mean: Any = visual.image_mean
    std: Any = visual.image_std
    ours = TimmViT(trunk, mean, std, visual.position_interpolation)
    found = []
    for name, pixels in sample_pixels(visual.native_size, picture).items():
        own, other = normalize_pixels(pixels, visual), normalize_pixels(pixels, tower)
        found += [
            compare(f'dense map, {name}', ours.dense(own, mode), tower.dense(other, mode)),
            compare(f'image embedding, {name}', trunk(own), loaded(other)),
        ]
    assert not isinstance(loaded, TimmModel)
    return found
