"""The dense map of DenseRC: values of the last three blocks, gated per head, nothing mixed.

Registered as dense modes, so that the refined tower is an ordinary :class:`RefinerCLIP` whose gate
is saved with its last block (``value_gate``).
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from refineclip.encoders.towers.blocks import BlockView
from refineclip.encoders.towers.dense_modes import dense_mode
from refineclip.encoders.towers.dense_vit import DenseViT

NUM_BLOCKS = 3
GATE = 'value_gate'


def add_gate(visual: DenseViT) -> None:
    """Add the gate that all layers share to the tower's last block, initialised to one half.

    Equal gates are a plain sum of values, whose scale does not matter before the final norm. The
    start is not stated in the notes on DenseRC; default of this project.

    Raises:
        ValueError: If the tower has fewer than three blocks.
    """
    if visual.num_blocks < NUM_BLOCKS:
        raise ValueError(
            f"dense mode 'gated-values' sums {NUM_BLOCKS} blocks: expected a tower of as many or "
            f'more, got {visual.num_blocks}'
        )
    last = visual.blocks[-1]
    gate = nn.Linear(visual.width, last.attn.num_heads)
    nn.init.zeros_(gate.weight)
    nn.init.zeros_(gate.bias)
    setattr(last, GATE, gate)


def gated_sum(views: Sequence[BlockView], tokens: Tensor) -> tuple[Tensor, Tensor]:
    """Sum the gated values of consecutive blocks.

    The gate of a head is a sigmoid of one linear map, the same for all blocks, of the token after
    the block's first norm: what the values are made of. Each block's gated values pass its own
    out-projection. Between the blocks tokens run on as the library does.

    Args:
        views: The blocks, in order; the last one carries the gate.
        tokens: (B, N, W) before the first of them.

    Returns:
        The sum (B, N, W), and the tokens (B, N, W) before the last block.
    """
    gate = getattr(views[-1].block, GATE)
    total = tokens.new_zeros(())
    for index, view in enumerate(views):
        value = view.value(tokens)  # (B, heads, N, d)
        open_share = gate(_first_norm(view)(tokens)).sigmoid()  # (B, N, heads)
        total = total + view.output(value * open_share.transpose(1, 2)[..., None])
        if index < len(views) - 1:
            tokens = view.forward(tokens)
    return total, tokens


def _first_norm(view: BlockView) -> nn.Module:
    """The norm before attention: open_clip's name of it, or timm's."""
    return view.block.ln_1 if hasattr(view.block, 'ln_1') else view.block.norm1


@dense_mode('gated-values', num_blocks=NUM_BLOCKS, fit_tower=add_gate)
def gated_values(views: Sequence[BlockView], tokens: Tensor) -> Tensor:
    """Sum of the gated values, and nothing else: no attention, no residual, no MLP."""
    return gated_sum(views, tokens)[0]


@dense_mode('gated-values-residual', num_blocks=NUM_BLOCKS, fit_tower=add_gate)
def gated_values_residual(views: Sequence[BlockView], tokens: Tensor) -> Tensor:
    """Like ``'gated-values'``, with the last block's residual and MLP around the sum.

    Not DenseRC, whose ablation is against residuals: it starts near CLIPSelf's map (``'value'``),
    which matters where training is short.
    """
    total, tokens = gated_sum(views, tokens)
    tokens = tokens + total
    return tokens + views[-1].mlp(tokens)
