"""Whether a stored position embedding can be resized at all: its grid must be known."""

from __future__ import annotations

import math

from torch import Tensor


def check_grid(key: str, stored: Tensor, expected: Tensor, num_prefix: int) -> None:
    """Raise a ValueError if a position embedding has another length and is of no square grid.

    Args:
        key: Its name, for the message.
        stored: ``(..., N, W)`` of the file.
        expected: ``(..., M, W)`` of the model.
        num_prefix: Slots of prefix tokens among the N.
    """
    if stored.ndim < 2 or stored.shape[-1] != expected.shape[-1]:
        raise ValueError(
            f'expected {key} with shape {tuple(expected.shape)}, got {tuple(stored.shape)}; is it '
            'another model size?'
        )
    length = stored.shape[-2]
    if length == expected.shape[-2]:
        return
    # A tower without a slot for its class token takes files that have one: it moves to the token.
    slots = (num_prefix,) if num_prefix else (0, 1)
    if not any(math.isqrt(max(0, length - n)) ** 2 == length - n > 0 for n in slots):
        raise ValueError(
            f'expected {key} of {expected.shape[-2]} tokens, or of a square grid that can be '
            f'resized, got {length} tokens, of a grid whose height and width the file does not '
            'say; build the model at the image size that the file was trained with '
            '(model_kwargs=dict(img_size=(height, width)) for a timm model), or resize it first'
        )
