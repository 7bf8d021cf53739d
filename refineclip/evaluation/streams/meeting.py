"""What processes of one evaluation do together, beside sharing its images."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from mmengine.dist import all_reduce, broadcast_object_list, get_world_size, is_main_process
from numpy.typing import NDArray
from torch import Tensor

T = TypeVar('T')


def from_main(make: Callable[[], T]) -> T:
    """Let the first process make something, and give it to all."""
    if get_world_size() == 1:
        return make()
    found = [make() if is_main_process() else None]
    broadcast_object_list(found)
    return found[0]  # type: ignore[return-value]  # the first process has put it there


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
