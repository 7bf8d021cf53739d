"""Position embeddings on other grids: the rule of each family, on numbers worked out by hand."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
from torch import Tensor

from refineclip.encoders.build import build_clip
from refineclip.encoders.towers.position_interpolation import (
    POSITION_INTERPOLATIONS,
    default_position_interpolation,
    resize_position,
)

# Two columns, 0 and 1, become four: at x = -.25, .25, .75 and 1.25 the cubic kernel of a = -.75
# gives w(.25) = .87890625, w(.75) = .26171875, w(1.25) = -.10546875, w(1.75) = -.03515625.
CUBIC = [-0.10546875, 0.26171875 - 0.03515625, 0.87890625 - 0.10546875, 1.10546875]
LINEAR = [0.0, 0.25, 0.75, 1.0]


def columns(position: Tensor) -> list[float]:
    """First row of a two-row position embedding ``(1, 2 * w, 1)``."""
    return position[0, : position.shape[1] // 2, 0].tolist()


RAMP = torch.tensor([0.0, 1.0, 0.0, 1.0])[None, :, None]


@pytest.mark.parametrize('family', ['open_clip', 'quick_gelu', 'eva02'])
def test_clip_towers_resize_as_published(family: str, toy_configs: dict[str, Any]) -> None:
    """CLIPSelf's eva_vit_model.py and transformer.py: bicubic, align_corners=False."""
    visual = build_clip(toy_configs[family], text=False).visual
    with_class_slot = torch.cat((torch.full((1, 1, 1), 7.0), RAMP), dim=1)
    resized = visual._position(with_class_slot, (2, 2), (2, 4))
    assert resized[0, 0, 0] == 7
    assert columns(resized[:, 1:]) == pytest.approx(CUBIC)


@pytest.mark.parametrize(
    ('name', 'expected'), [('bicubic', CUBIC), ('bilinear', LINEAR), ('bilinear-antialias', LINEAR)]
)
def test_numbers(name: str, expected: list[float]) -> None:
    assert columns(resize_position(RAMP, (2, 2), (2, 4), name)) == pytest.approx(expected)


def test_antialias_is_another_kernel() -> None:
    """a = -.5, and at the edge only the weights inside: w(1.25) / (w(.25) + w(1.25))."""
    first = -0.0703125 / (0.8671875 - 0.0703125)
    resized = columns(resize_position(RAMP, (2, 2), (2, 4), 'bicubic-antialias'))
    assert resized[0] == pytest.approx(first)
    assert resized[0] != pytest.approx(CUBIC[0], abs=1e-2)


def test_offset_of_dinov2() -> None:
    """The scale is that of 4.1 columns: x = .5 * 2 / 4.1 - .5 for the first one."""
    resized = columns(resize_position(RAMP, (2, 2), (2, 4), 'bicubic-offset'))
    t = 1 + (0.5 * 2 / 4.1 - 0.5)  # distance from index -1; index 1 lies 2 - t away
    distance = 2 - t
    weight = -0.75 * distance**3 + 3.75 * distance**2 - 6 * distance + 3
    assert resized[0] == pytest.approx(weight)


@pytest.mark.parametrize(
    ('name', 'expected'),
    [
        # Two columns to a square of four, of which two rows are kept.
        ('bilinear-crop', LINEAR),
        ('bilinear-crop-corners', [0.0, 1 / 3, 2 / 3, 1.0]),
    ],
)
def test_square_and_crop_of_radio(name: str, expected: list[float]) -> None:
    rows = torch.tensor([0.0, 0.0, 1.0, 1.0])[None, :, None]
    assert columns(resize_position(RAMP, (2, 2), (2, 4), name)) == pytest.approx(expected)
    cropped = resize_position(rows, (2, 2), (2, 4), name)[0, :, 0]
    assert cropped[::4].tolist() == pytest.approx(expected[:2])


def test_same_grid_is_untouched() -> None:
    for name in POSITION_INTERPOLATIONS:
        assert resize_position(RAMP, (2, 2), (2, 2), name) is RAMP
    half = resize_position(RAMP.half(), (2, 2), (3, 1), 'bicubic')
    assert (half.dtype, half.shape) == (torch.half, (1, 3, 1))


@pytest.mark.parametrize(
    ('architecture', 'expected'),
    [
        ('eva02_base_patch16_clip_224', 'bicubic'),
        ('vit_large_patch14_clip_224', 'bicubic'),
        ('vit_base_mci_224', 'bicubic'),
        ('vit_base_patch16_siglip_224', 'bicubic-antialias'),
        ('vit_small_patch14_dinov2', 'bicubic-antialias'),
        ('vit_small_patch14_reg4_dinov2', 'bicubic-antialias'),
        ('vit_base_patch14_reg1_tipsv2', 'bilinear-antialias'),
        ('vit_pe_core_base_patch16_224', 'bilinear'),
        ('vit_pe_spatial_base_patch16_512', 'bilinear'),
        ('vit_base_patch16_radio_v3', 'bilinear-crop-corners'),
        ('vit_large_patch16_radio_v3', 'bilinear-crop'),
        ('vit_so400m_patch16_radio_v4', 'bilinear-crop'),
        ('vit_small_patch16_rope_mixed_ape_224', 'bicubic-antialias'),
    ],
)
def test_defaults(architecture: str, expected: str) -> None:
    assert timm.is_model(architecture)
    assert default_position_interpolation(architecture) == expected


@pytest.mark.parametrize('family', ['open_clip', 'eva02'])
def test_the_key(family: str, toy_configs: dict[str, Any]) -> None:
    plain = build_clip(toy_configs[family], text=False)
    smooth = build_clip(toy_configs[family], text=False, position_interpolation='bicubic-antialias')
    smooth.load_state_dict(plain.state_dict())
    assert 'bicubic-antialias' in repr(smooth.visual)  # what caches are named by
    images = torch.randn(1, 3, 64, 64)
    assert torch.equal(plain.visual.dense(images), smooth.visual.dense(images))
    images = torch.randn(1, 3, 96, 64)
    assert not torch.allclose(plain.visual.embed(images)[0], smooth.visual.embed(images)[0])
    with pytest.raises(ValueError, match=r"\['bicubic'.*got 'cubic'"):
        build_clip(toy_configs[family], text=False, position_interpolation='cubic')
