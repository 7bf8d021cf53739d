"""Settings of loaders that contradict each other, mended before torch refuses them."""

from __future__ import annotations

import logging
from collections.abc import MutableMapping
from typing import Any

from mmengine.logging import print_log

LOADERS = ('train_dataloader', 'val_dataloader', 'test_dataloader')
# What only worker processes can have; torch raises where there are none.
_OF_WORKERS = ('persistent_workers', 'prefetch_factor')


def settle_workers(cfg: MutableMapping[str, Any]) -> None:
    """Drop settings of worker processes from loaders that have none, and say so.

    Args:
        cfg: A config with some of ``train_dataloader``, ``val_dataloader`` and ``test_dataloader``;
            changed in place.
    """
    for name in LOADERS:
        loader = cfg.get(name)
        if not loader or loader.get('num_workers', 0) > 0:
            continue
        dropped = [key for key in _OF_WORKERS if loader.get(key)]
        for key in dropped:
            del loader[key]
        if dropped:
            print_log(
                f'{name}: num_workers=0, so {" and ".join(dropped)} have no effect and are left '
                'out',
                logger='current',
                level=logging.INFO,
            )
