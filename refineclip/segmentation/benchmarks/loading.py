"""Loading label maps of any depth, strictly."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import numpy as np
from mmengine import fileio
from mmengine.registry import TRANSFORMS
from mmseg.datasets.transforms import LoadAnnotations
from PIL import Image


@TRANSFORMS.register_module()
class LoadSegLabels(LoadAnnotations):
    """Load a label map of 8, 16 or 32 bits, and refuse what does not fit the vocabulary.

    mmseg's ``LoadAnnotations`` casts to 8 bits, where label 256 becomes 0 and 65535 becomes 255.
    This one keeps all bits, and checks values and size. It applies the data set's
    ``reduce_zero_label`` and ``label_map``, and reads panoptic PNGs where the data set tells the
    category of each segment.

    Args:
        num_labels: Valid labels are [0, num_labels), after the data set's maps; ``None`` takes the
            data set's own number where it tells one (panoptic sets) and checks nothing otherwise.
        ignore_index: Label that is valid besides, and not scored.
        **kwargs: Those of mmseg's ``LoadAnnotations``.

    Raises:
        ValueError: On a label out of range, or a size that is not the image's.
    """

    def __init__(
        self, num_labels: int | None = None, ignore_index: int = 255, **kwargs: Any
    ) -> None:
        super().__init__(**kwargs)
        if num_labels is not None and 0 <= ignore_index < num_labels:
            raise ValueError(
                f'expected an ignore_index outside of the {num_labels} labels, got {ignore_index}'
            )
        self.num_labels = num_labels
        self.ignore_index = ignore_index

    def _load_seg_map(self, results: dict) -> None:
        """Set ``gt_seg_map``, (H, W) uint8 or int32, at the size of the image as it was read."""
        path = results['seg_map_path']
        with Image.open(BytesIO(fileio.get(path, backend_args=self.backend_args))) as file:
            if 'category_of_segment' in results:
                labels = self._from_segments(np.asarray(file.convert('RGB')), results)
            else:
                labels = self._from_classes(np.asarray(file), results)
        self._check(labels, results)
        # Resizing by Pillow, as some recipes do it, takes 8 bits only.
        largest = self.ignore_index if self.num_labels is not None else labels.max(initial=0)
        results['gt_seg_map'] = labels.astype(np.uint8) if 0 <= largest <= 255 else labels
        results['seg_fields'].append('gt_seg_map')

    def _from_classes(self, stored: np.ndarray, results: dict) -> np.ndarray:
        path = results['seg_map_path']
        if stored.ndim != 2:
            raise ValueError(
                f'{path}: expected one channel of labels, got an image of shape {stored.shape}; '
                'take the label files, not their pictures'
            )
        stored = stored.astype(np.int32)
        labels = stored.copy()
        reduce = results.get('reduce_zero_label', False)
        if reduce:
            labels -= 1
            labels[(stored == 0) | (stored == self.ignore_index)] = self.ignore_index
        for old, new in (results.get('label_map') or {}).items():
            labels[stored - int(reduce) == old] = self.ignore_index if new == 255 else new
        return labels

    def _from_segments(self, rgb: np.ndarray, results: dict) -> np.ndarray:
        ids = rgb.astype(np.int32) @ np.array([1, 256, 65536], dtype=np.int32)
        labels = np.full(ids.shape, self.ignore_index, dtype=np.int32)
        for segment, category in results['category_of_segment'].items():
            labels[ids == segment] = category
        return labels

    def _check(self, labels: np.ndarray, results: dict) -> None:
        path, size = results['seg_map_path'], results.get('ori_shape')
        if size is not None and labels.shape != tuple(size[:2]):
            raise ValueError(
                f'{path}: expected labels of {size[1]} x {size[0]} px, the size of '
                f'{results["img_path"]}, got {labels.shape[1]} x {labels.shape[0]} px; take both '
                'from one release'
            )
        if self.num_labels is None:
            return
        bad = labels[((labels < 0) | (labels >= self.num_labels)) & (labels != self.ignore_index)]
        if bad.size:
            raise ValueError(
                f'{path}: expected labels in [0, {self.num_labels - 1}] or {self.ignore_index}, '
                f'got {sorted(set(bad.tolist()))[:5]}; the labels are of another vocabulary, or '
                'were not prepared (tools/prepare)'
            )
