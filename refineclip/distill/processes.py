"""What the processes of a step exchange, so that they compute what one with all images would."""

from __future__ import annotations

import torch
from mmengine.dist import all_gather, all_reduce, get_rank, get_world_size
from torch import Tensor
from torch.nn import functional as F


def mean_over_processes(count: int, device: torch.device) -> Tensor:
    """Mean of a count over all processes, so that each region weighs the same.

    Losses divide their sum by it, and DDP takes the mean of their gradients. At least 1 region
    together.
    """
    total = torch.tensor(float(count), device=device)
    all_reduce(total, op='mean')
    return total.clamp(min=1 / get_world_size())


def gather_rows(rows: Tensor) -> list[Tensor]:
    """Rows (M, ...) of every process in the order of ranks, M may differ; without gradient."""
    if get_world_size() == 1:
        return [rows.detach()]
    counts = [int(n) for n in all_gather(torch.tensor([len(rows)], device=rows.device))]
    missing = max(counts) - len(rows)
    padded = F.pad(rows.detach(), (0, 0) * (rows.ndim - 1) + (0, missing))
    parts = all_gather(padded.contiguous())
    return [part[:count] for part, count in zip(parts, counts, strict=True)]


def gather_with_owners(rows: Tensor, owner: Tensor) -> tuple[Tensor, Tensor]:
    """Rows (M, D) of all processes, and the owner (M,) of each: -1 for those of other processes.

    Args:
        rows: Rows of this process (m, D); m may be 0.
        owner: Whose they are, (m,), 0 or more.
    """
    parts, rank = gather_rows(rows), get_rank()
    owners = [
        owner if place == rank else owner.new_full((len(part),), -1)
        for place, part in enumerate(parts)
    ]
    return torch.cat(parts), torch.cat(owners)
