"""One hash for "the same network with the same weights", for caches of what it said."""

from __future__ import annotations

import hashlib

import torch
from torch import nn


def weights_hash(module: nn.Module) -> str:
    """SHA-256 of a module's layers, parameters and buffers, names and types included."""
    # The layers too: the same weights mean something else under quick GELU, or with more heads,
    # which no layer prints.
    heads = [getattr(part, 'num_heads', None) for part in module.modules()]
    digest = hashlib.sha256(f'{module!r} {heads}'.encode())
    for name, value in sorted(module.state_dict().items()):
        digest.update(f'{name} {value.dtype} {tuple(value.shape)}'.encode())
        digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy())
    return digest.hexdigest()
