"""COCO panoptic as a data set of mmengine's validation and test loops."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.registry import DATASETS
from numpy.typing import NDArray
from torch.utils.data import Dataset

from refineclip.datasets.coco_panoptic import CocoPanoptic, PanopticImage
from refineclip.datasets.image_io import image_to_tensor, read_image

from .regions.panoptic_regions import check_files


@dataclass(frozen=True)
class PanopticAnnotation:
    """Ground truth of one image, as the metrics take it.

    Attributes:
        image: Its segments.
        ids: (H, W) int32 segment id per pixel.
    """

    image: PanopticImage
    ids: NDArray[np.int32]


@DATASETS.register_module()
class PanopticEvaluationDataset(Dataset):
    """Annotated images for :class:`RegionAccuracyMetric` and :class:`SpatialAwarenessMetric`.

    mmengine's default collation makes the lists that :class:`RegionPreprocessor` takes.

    Args:
        data_root: COCO folder, see :class:`~refineclip.datasets.coco_panoptic.CocoPanoptic`.
        split: Labelled split.
        limit: Use the first images only.

    Raises:
        FileNotFoundError: If the json, photos or PNGs are missing.
        ValueError: If the split is empty or ``limit`` is not positive.
    """

    def __init__(
        self, data_root: str | Path, split: str = 'val2017', limit: int | None = None
    ) -> None:
        if limit is not None and limit < 1:
            raise ValueError(f'limit: expected one or more images, got {limit}')
        self.panoptic = CocoPanoptic(data_root, split)
        self.panoptic.images = self.panoptic.images[:limit]
        check_files(self.panoptic)

    @property
    def metainfo(self) -> dict[str, Any]:
        """What the metrics need to know of the classes."""
        return {
            'classes': self.panoptic.classes,
            'is_thing': self.panoptic.is_thing,
            'class_to_super': self.panoptic.class_to_super,
        }

    def __len__(self) -> int:
        return len(self.panoptic)

    def __getitem__(self, index: int) -> dict[str, Any]:
        """Read one image and its label map."""
        image = self.panoptic[index]
        picture = image_to_tensor(read_image(image.img_path))
        if tuple(picture.shape[1:]) != (image.height, image.width):
            raise ValueError(
                f'expected {image.width} x {image.height} px as annotated, got '
                f'{picture.shape[2]} x {picture.shape[1]} px in {image.img_path}; take images and '
                'annotations of one release'
            )
        return {
            'inputs': picture,
            'img_paths': str(image.img_path),
            'img_ids': index,
            'annotation': PanopticAnnotation(image, image.read_ids()),
        }
