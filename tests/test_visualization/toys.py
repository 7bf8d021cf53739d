"""Images and maps whose structure is known."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def halves(width: int = 6, height: int = 4, dims: int = 5) -> Tensor:
    """A map (D, h, w) whose left half points along channel 0 and right half along channel 1."""
    dense = torch.zeros(dims, height, width)
    dense[0, :, : width // 2] = 2.0
    dense[1, :, width // 2 :] = 3.0
    return dense


def noise(seed: int, dims: int = 5, height: int = 4, width: int = 6) -> Tensor:
    """A random map (D, h, w)."""
    return torch.randn(dims, height, width, generator=torch.Generator().manual_seed(seed))


def picture(height: int = 32, width: int = 48) -> NDArray[np.uint8]:
    """A picture (H, W, 3) whose pixel values tell their place."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows * 5, columns * 5, rows + columns], axis=-1).astype(np.uint8)
