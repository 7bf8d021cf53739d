"""Keeping account of image files that could not be used."""

from __future__ import annotations

import logging
from typing import Any

from mmengine.dist import all_gather_object
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.registry import HOOKS


class TooManyBadImagesError(RuntimeError):
    """More image files are unusable than the config allows."""


@HOOKS.register_module()
class BadImageHook(Hook):
    """Warn once per unusable image, count them, and stop when they are too many.

    Reads ``bad_images`` of the batches of :func:`collate_regions`. Each process counts the files
    that it met; the count at the end joins all processes.

    Args:
        max_bad_fraction: Largest tolerated number of distinct bad files, as a fraction of the
            dataset's length, in [0, 1].

    Raises:
        ValueError: ``max_bad_fraction`` is outside [0, 1].
        TooManyBadImagesError: While training, when a process met more bad files than tolerated.
    """

    priority = 'NORMAL'

    def __init__(self, max_bad_fraction: float = 0.01) -> None:
        if not 0 <= max_bad_fraction <= 1:
            raise ValueError(
                f'max_bad_fraction: expected a fraction in [0, 1], got {max_bad_fraction}.'
            )
        self.max_bad_fraction = max_bad_fraction
        self.reasons: dict[str, str] = {}

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """Record the bad files of the batch."""
        for path, reason in (data_batch or {}).get('bad_images', ()):
            if path in self.reasons:
                continue
            self.reasons[path] = reason
            _warn(f'Skipped image {path}: {reason}')
            self._check(len(runner.train_dataloader.dataset))

    def _check(self, num_images: int) -> None:
        allowed = self.max_bad_fraction * num_images
        if len(self.reasons) > allowed:
            path, reason = next(reversed(self.reasons.items()))
            raise TooManyBadImagesError(
                f'Expected at most {allowed:g} unusable images of {num_images} (max_bad_fraction='
                f'{self.max_bad_fraction:g}), got {len(self.reasons)}, the last one {path}: '
                f'{reason}. Mend or remove the files warned about, or raise max_bad_fraction.'
            )

    def after_train(self, runner: Any) -> None:
        """Log how many distinct files of all processes were skipped."""
        paths = sorted({path for part in all_gather_object(self.reasons) for path in part})
        if paths:
            num_images = len(runner.train_dataloader.dataset)
            _warn(
                f'{len(paths)} of {num_images} images could not be used and were skipped: '
                f'{", ".join(paths[:10])}{", ..." if len(paths) > 10 else ""}'
            )


def _warn(message: str) -> None:
    # The log is a file of text; a file's name may hold bytes that are none.
    text = message.encode(errors='backslashreplace').decode()
    print_log(text, logger='current', level=logging.WARNING)
