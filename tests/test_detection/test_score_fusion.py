"""Score fusion and the CLIP map's pooling, against numbers worked by hand."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip('mmdet.models')

from refineclip.detection.score_fusion import cosine_logits, fuse_scores, pool_vlm_map

pytestmark = pytest.mark.mm

DET = torch.tensor([[0.16, 0.04, 0.80]])
VLM = torch.tensor([[0.64, 0.36, 0.20]])
IS_BASE = torch.tensor([True, False])


def test_base_novel_and_background_by_hand():
    fused = fuse_scores(DET, VLM, IS_BASE, alpha=0.5, beta=0.75)
    # Base: sqrt(0.16 * 0.64). Novel: 0.04^0.25 * 0.36^0.75. Background with alpha: sqrt(0.16).
    torch.testing.assert_close(fused, torch.tensor([[0.32, 0.207846, 0.4]]), atol=1e-6, rtol=0)


def test_rows_are_not_renormalised():
    assert fuse_scores(DET, VLM, IS_BASE, 0.5, 0.75).sum() == pytest.approx(0.927846, abs=1e-6)


@pytest.mark.parametrize(('share', 'expected'), [(0.0, DET), (1.0, VLM)])
def test_shares_at_the_ends(share, expected):
    torch.testing.assert_close(fuse_scores(DET, VLM, IS_BASE, share, share), expected)


def test_cosine_logits_ignore_length_and_precision():
    text = torch.eye(3)[:2]
    features = torch.tensor([[3.0, 4.0, 0.0]])
    expected = torch.tensor([[30.0, 40.0]])
    torch.testing.assert_close(cosine_logits(features, text, 50.0), expected)
    with torch.autocast('cpu', dtype=torch.bfloat16):
        logits = cosine_logits(features.bfloat16(), text, 50.0)
    assert logits.dtype == torch.float32
    torch.testing.assert_close(logits, expected)


@pytest.mark.parametrize('patch', [14, 16])
def test_a_box_lands_on_the_same_tokens_for_every_patch(patch):
    """Tokens 2..4 of each side, whatever the pixels of a token are."""
    size = 8
    maps = torch.zeros(2, 3, size, size)
    maps[:, 2] = 1
    maps[1, :, 2:5, 2:5] = torch.tensor([1.0, 0.0, 0.0])[:, None, None]
    box = torch.tensor([[1.0, *(patch * side for side in (2, 2, 5, 5))]])
    pooled = pool_vlm_map(maps, box, patch)
    # The samples at the border of the box mix half a token of outside on each side.
    inside = pool_vlm_map(
        maps, torch.tensor([[1.0, *(patch * s for s in (2.5, 2.5, 4.5, 4.5))]]), patch
    )
    torch.testing.assert_close(inside, torch.tensor([[1.0, 0.0, 0.0]]))
    assert pooled[0, 0] > 0.9
    other = pool_vlm_map(
        maps, torch.tensor([[1.0, *(patch * s for s in (5.5, 5.5, 7.5, 7.5))]]), patch
    )
    torch.testing.assert_close(other, torch.tensor([[0.0, 0.0, 1.0]]))


def test_every_token_counts_the_same_whatever_its_length():
    maps = torch.zeros(1, 2, 2, 2)
    maps[0, 0, :, 0], maps[0, 1, :, 1] = 100.0, 1.0
    pooled = pool_vlm_map(maps, torch.tensor([[0.0, 0.0, 0.0, 32.0, 32.0]]), 16)
    torch.testing.assert_close(pooled, torch.tensor([[0.5, 0.5]]))
