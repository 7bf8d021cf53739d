"""The numpy lines of docs/export.md suppress what torchvision suppresses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torchvision.ops import nms

from tests.test_docs.pages import blocks


@pytest.fixture
def suppress(repo_root: Path) -> Any:
    names: dict[str, Any] = {}
    [code] = [one for one in blocks(repo_root / 'docs' / 'export.md', 'python') if 'def ' in one]
    exec(code, names)
    return names['suppress']


def test_suppression_by_hand(suppress: Any) -> None:
    """Thirds of an overlap stay at 1/3 and go below it; a box apart stays; best first."""
    boxes = np.array([[0, 0, 2, 1], [1, 0, 3, 1], [9, 9, 10, 10]], dtype=float)
    scores = np.array([0.5, 0.9, 0.7])
    assert suppress(boxes, scores, 0.34).tolist() == [1, 2, 0]
    assert suppress(boxes, scores, 0.33).tolist() == [1, 2]
    assert suppress(boxes[:0], scores[:0], 0.5).tolist() == []


@pytest.mark.parametrize('threshold', [0.1, 0.4, 0.6])
def test_suppression_is_that_of_torchvision(suppress: Any, threshold: float) -> None:
    generator = torch.Generator().manual_seed(0)
    boxes = (torch.rand(200, 2, 2, generator=generator) * 20).sort(dim=1).values.flatten(1)
    scores = torch.rand(200, generator=generator)
    kept = suppress(boxes.double().numpy(), scores.numpy(), threshold)
    assert kept.tolist() == nms(boxes.double(), scores.double(), threshold).tolist()
    assert 0 < len(kept) < 200
