"""Sums over the processes of one evaluation."""

from __future__ import annotations

import torch
from mmengine.dist import all_reduce, get_world_size
from numpy.typing import NDArray
from torch import Tensor


def add_up(*values: Tensor | NDArray) -> None:
    """Replace values by their sums over all processes, in place."""
    for value in values if get_world_size() > 1 else ():
        summed = torch.as_tensor(value).clone()
        all_reduce(summed)
        torch.as_tensor(value).copy_(summed)  # of an array, shares its memory


def widest(width: int) -> int:
    """The largest of the processes' numbers; one without images may not know its own."""
    largest = torch.tensor(width)
    all_reduce(largest, 'max')
    return int(largest)
