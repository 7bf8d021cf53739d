"""A toy encoder and texts of known directions, and label files in the real layouts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from refineclip.segmentation import TextSegmentor

CLIP = dict(model='microworld-clip', pretrained='shipped')
DIM = 128
RED, GREEN, BLUE = (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0)


class ColourTower(torch.nn.Module):
    """An encoder whose token is the mean colour of its patch: what it says can be worked out."""

    image_mean, image_std = (0.0, 0.0, 0.0), (1 / 255, 1 / 255, 1 / 255)
    patch_size, embed_dim = 8, 3

    def __init__(self) -> None:
        super().__init__()
        self.visual = torch.nn.Identity()
        self.visual.patch_size = self.patch_size

    def dense(self, images: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.avg_pool2d(images, self.patch_size)


def colour_segmentor(vocabulary: Any, texts: Any = None, **kwargs: Any) -> TextSegmentor:
    """Segment by red, green and blue: the text embeddings are the axes unless given."""
    texts = torch.eye(3) if texts is None else torch.tensor(texts, dtype=torch.float32)
    kwargs.setdefault('test_cfg', dict(mode='whole'))
    model = TextSegmentor(ColourTower(), dict(text_embeddings=texts), vocabulary, **kwargs)
    return model.eval()


def write_image(path: Path, size: tuple[int, int] = (48, 40), seed: int = 0) -> None:
    """Write noise of (width, height)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)


def write_labels(path: Path, labels: Any, size: tuple[int, int] = (48, 40)) -> None:
    """Write a label map (or one value everywhere) of the depth of its type."""
    path.parent.mkdir(parents=True, exist_ok=True)
    labels = np.broadcast_to(np.asarray(labels), (size[1], size[0]))
    Image.fromarray(np.ascontiguousarray(labels)).save(path)


def stripes(*values: int, dtype: Any = np.uint8) -> np.ndarray:
    """Label map (40, 48) of vertical stripes of equal width."""
    return np.repeat(np.array(values, dtype=dtype), 48 // len(values))[None].repeat(40, 0)


def picture(*colours: tuple[float, float, float], height: int = 16) -> torch.Tensor:
    """Image (1, 3, H, 16 * n) of squares of the colours."""
    return torch.tensor(colours).T[None, :, None].repeat_interleave(16, 3).repeat(1, 1, height, 1)


def labels_of(model: TextSegmentor, image: torch.Tensor) -> torch.Tensor:
    return model.predict(image)[0].pred_sem_seg.data[0]
