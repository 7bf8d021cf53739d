"""The Refiner: a light copy of a frozen CLIP's last blocks that learns cleaner dense features."""

from __future__ import annotations

import copy

from torch import Tensor, nn

from .towers.dense_vit import DenseViT

INPUTS = ('block', 'output')


class Refiner(nn.Module):
    """Copy of the last K blocks of a frozen encoder, initialised from its weights.

    With ``input='block'`` it takes the trunk's tokens after block N - K and replaces the last K
    blocks, so the trunk runs once for the plain and for the refined map, and at initialisation both
    maps are equal. With ``input='output'`` it is stacked on the tokens of the whole encoder. Final
    norm and head stay the encoder's own, frozen.

    Paper: Refining CLIP's Spatial Awareness, arXiv 2504.02328. That the Refiner is light, works on
    a frozen CLIP and has a parameter K is known; that it is this copy is inferred.

    Args:
        visual: The encoder to copy from.
        num_blocks: K, in [1, N]. Not stated in the paper; default 3 from this project's pilots.
        input: ``'block'`` or ``'output'``. Not stated in the paper.

    Raises:
        ValueError: If ``num_blocks`` or ``input`` is out of range.
    """

    def __init__(self, visual: DenseViT, num_blocks: int = 3, input: str = 'block') -> None:
        super().__init__()
        if not 1 <= num_blocks <= visual.num_blocks:
            raise ValueError(
                f'refiner.num_blocks: expected 1 to {visual.num_blocks} (the blocks of this '
                f'encoder), got {num_blocks}'
            )
        if input not in INPUTS:
            raise ValueError(f'refiner.input: expected one of {INPUTS}, got {input!r}')
        self.num_blocks = num_blocks
        self.input = input
        self.blocks = nn.ModuleList(copy.deepcopy(block) for block in visual.blocks[-num_blocks:])
        self.requires_grad_(True)

    @property
    def trains(self) -> bool:
        """Whether any of its parameters requires a gradient."""
        return any(parameter.requires_grad for parameter in self.parameters())

    def copy_from(self, visual: DenseViT) -> None:
        """Start again from an encoder's last blocks, in place."""
        for own, block in zip(self.blocks, visual.blocks[-self.num_blocks :], strict=True):
            own.load_state_dict(block.state_dict())

    def forward(self, tokens: Tensor, grid: tuple[int, int], visual: DenseViT, mode: str) -> Tensor:
        """Refine trunk tokens.

        Args:
            tokens: (B, N, W) tokens after block N - K (``input='block'``) or N (``'output'``).
            grid: Token grid (h, w).
            visual: The encoder that the tokens come from.
            mode: Dense mode of the last copied block.

        Returns:
            Tokens (B, N, W) before the final norm.
        """
        start = visual.num_blocks - self.num_blocks
        return visual.run_dense(tokens, grid, start, mode, blocks=self.blocks)
