"""A look at the label maps before training: do they show the classes at all?"""

from __future__ import annotations

import logging
from typing import Any

import numpy as np
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.registry import HOOKS

_LOADERS = ('LoadSegLabels', 'LoadAnnotations')


@HOOKS.register_module()
class LabelMapHook(Hook):
    """Read some label maps through the training pipeline's own loader, and count classes.

    Masks of 0 and 255, as many tools write them, show class 0 where the background is and nothing
    elsewhere, because 255 is ignored: training on them teaches nothing and says nothing.

    Args:
        num_images: How many maps are read, evenly spread over the data set.

    Raises:
        ValueError: If no pixel is of a class, or all maps of the data set were read and show one
            class of several.
    """

    def __init__(self, num_images: int = 64) -> None:
        self.num_images = num_images

    def before_train(self, runner: Any) -> None:
        """Count, and refuse or warn."""
        dataset = runner.train_dataloader.dataset
        steps = getattr(getattr(dataset, 'pipeline', None), 'transforms', ())
        loader = next((step for step in steps if type(step).__name__ in _LOADERS), None)
        if loader is None:
            return
        classes = dataset.metainfo['classes']
        indices = np.unique(
            np.linspace(0, len(dataset) - 1, min(self.num_images, len(dataset))).astype(int)
        )
        counts, ignored = np.zeros(len(classes), dtype=np.int64), 0
        for index in indices:
            labels = loader(dataset.get_data_info(int(index)))['gt_seg_map']
            valid = (labels >= 0) & (labels < len(classes))
            counts += np.bincount(labels[valid].ravel().astype(np.int64), minlength=len(classes))
            ignored += int((~valid).sum())
        self._judge(classes, counts, ignored, len(indices), len(dataset))

    def _judge(
        self, classes: Any, counts: np.ndarray, ignored: int, num_read: int, num_images: int
    ) -> None:
        shown = [classes[index] for index in np.flatnonzero(counts)]
        if len(shown) > 1 or (shown and len(classes) == 1):
            return
        share = ignored / max(1, ignored + int(counts.sum()))
        message = (
            f'expected label maps that show the {len(classes)} classes, got {num_read} of '
            f'{num_images} read that show {"only " + repr(shown[0]) if shown else "none of them"}, '
            f'{share:.0%} of the pixels ignored; are they masks of 0 and 255? A label is the '
            "index of its class, 255 is ignored (and 0 with the data set's reduce_zero_label)"
        )
        if not shown or num_read == num_images:
            raise ValueError(message)
        print_log(message, logger='current', level=logging.WARNING)
