"""Loading images in pipelines of mmdet and mmseg by the reader of everything else."""

from __future__ import annotations

from typing import Any

import numpy as np
from mmengine import fileio
from mmengine.registry import TRANSFORMS

from refineclip.datasets.image_io import decode_image


@TRANSFORMS.register_module()
class LoadUprightImage:
    """mmcv's ``LoadImageFromFile`` with pixels of :func:`~refineclip.datasets.image_io.read_image`.

    OpenCV, which mmcv decodes with, turns JPEG and PNG as EXIF says but WebP and AVIF not, and
    knows fewer formats. Of a JPEG the two differ by rounding only.

    Required key ``img_path``; sets ``img`` (H, W, 3) BGR, uint8 unless ``to_float32``, and
    ``img_shape`` and ``ori_shape`` (H, W).

    Args:
        to_float32: Return float32.
        backend_args: Of mmengine's file backends.

    Raises:
        BadImageError: The file cannot be used.
    """

    def __init__(
        self, to_float32: bool = False, backend_args: dict[str, Any] | None = None
    ) -> None:
        self.to_float32 = to_float32
        self.backend_args = backend_args

    def __call__(self, results: dict[str, Any]) -> dict[str, Any]:
        """Load ``results['img_path']``."""
        path = results['img_path']
        content = fileio.get(path, backend_args=self.backend_args)
        rgb = np.asarray(decode_image(content, str(path), min_size=1))
        image = np.ascontiguousarray(rgb[..., ::-1])
        results['img'] = image.astype(np.float32) if self.to_float32 else image
        results['img_shape'] = results['ori_shape'] = image.shape[:2]
        return results

    def __repr__(self) -> str:
        name = type(self).__name__
        return f'{name}(to_float32={self.to_float32}, backend_args={self.backend_args})'
