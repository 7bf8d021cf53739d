"""The windows of a training-free segmentor, checked before anything is built."""

from __future__ import annotations

from typing import Any

DEFAULT_TEST_CFG = dict(mode='slide', crop_size=224, stride=112)


def check_test_cfg(cfg: dict[str, Any]) -> dict[str, Any]:
    """Check mode and windows; numbers become pairs.

    Raises:
        ValueError: If a key is missing, unknown or no number of pixels.
    """
    mode, keys = cfg.get('mode', 'whole'), set(cfg) - {'mode'}
    if mode == 'whole' and not keys:
        return {'mode': 'whole'}
    if mode != 'slide' or keys != {'crop_size', 'stride'}:
        raise ValueError(
            "test_cfg: expected dict(mode='whole') or dict(mode='slide', crop_size=..., "
            f'stride=...), got {dict(cfg)}'
        )
    pairs = {}
    for key in ('crop_size', 'stride'):
        value = cfg[key]
        pair = (value, value) if isinstance(value, int) else tuple(value)
        if len(pair) != 2 or min(pair) < 1:
            raise ValueError(f'test_cfg.{key}: expected pixels, one number or two, got {value}')
        pairs[key] = pair
    if any(step > crop for step, crop in zip(pairs['stride'], pairs['crop_size'], strict=True)):
        raise ValueError(f'test_cfg: expected a stride up to the crop_size, got {dict(cfg)}')
    return {'mode': 'slide', **pairs}
