"""Low-rank updates of the matrices of a tower's blocks, kept outside of the tower.

The tower stays a plain one: it holds the sums of frozen matrices and updates, so that whoever loads
it needs no word of LoRA.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from refineclip.encoders.refiner_clip import RefinerCLIP

# Matrices that hold three projections on top of each other, each with an update of its own.
FUSED = ('in_proj_weight', 'qkv.weight')


class LoRA(nn.Module):
    """Updates ``alpha / rank * up @ down`` of every matrix of a tower's blocks.

    Paper: LoRA, arXiv 2106.09685. Query, key and value have updates of their own where the library
    fuses them. ``up`` starts at zero, so that training starts from the frozen tower.

    Deviation: no dropout on the input of the updates (0.1 in UniRefiner's published code), which a
    merged matrix cannot have.

    Args:
        student: The tower that is updated.
        rank: Rank of each update; 8 in UniRefiner.
        alpha: Scale of each update times ``rank``; 16 in UniRefiner's published code.

    Raises:
        ValueError: If ``rank`` < 1, or larger than a matrix.
    """

    def __init__(self, student: RefinerCLIP, rank: int = 8, alpha: float = 16.0) -> None:
        super().__init__()
        if rank < 1:
            raise ValueError(f'lora.rank: expected 1 or more, got {rank}')
        self.scale = alpha / rank
        of_blocks = {id(p) for block in student.visual.blocks for p in block.parameters()}
        self.names: list[str] = []
        self.down, self.up = nn.ParameterList(), nn.ParameterList()
        for name, matrix in student.named_parameters():
            if id(matrix) not in of_blocks or matrix.ndim != 2:
                continue
            parts = 3 if name.endswith(FUSED) else 1
            rows, columns = matrix.shape[0] // parts, matrix.shape[1]
            if rank > min(rows, columns):
                raise ValueError(
                    f'lora.rank: expected at most {min(rows, columns)}, the size of {name}, got '
                    f'{rank}'
                )
            down = torch.empty(parts, rank, columns)
            nn.init.uniform_(down, -1 / math.sqrt(columns), 1 / math.sqrt(columns))
            self.names.append(name)
            self.down.append(down)
            self.up.append(torch.zeros(parts, rows, rank))

    def merged(self, base: RefinerCLIP) -> dict[str, Tensor]:
        """Return the updated matrices by their names in the tower, with gradient.

        Args:
            base: The frozen tower that the updates belong to.
        """
        frozen: Mapping[str, Tensor] = dict(base.named_parameters())
        return {
            name: frozen[name] + self.scale * torch.bmm(up, down).flatten(0, 1)
            for name, down, up in zip(self.names, self.down, self.up, strict=True)
        }

    @torch.no_grad()
    def write_into(self, student: RefinerCLIP, base: RefinerCLIP) -> None:
        """Give a tower the updated matrices, in place."""
        own = dict(student.named_parameters())
        for name, matrix in self.merged(base).items():
            own[name].copy_(matrix)
