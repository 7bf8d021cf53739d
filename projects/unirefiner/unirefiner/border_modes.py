"""Dense maps of images with a border of register patches, which the map leaves out.

The border is constant: zeros after normalisation, the mean colour. Its tokens are where a refined
tower puts what does not belong to any place of the image.
"""

from __future__ import annotations

from torch import Tensor

from refineclip.encoders.towers.blocks import BlockView
from refineclip.encoders.towers.dense_modes import dense_mode, get_dense_mode
from refineclip.encoders.towers.dense_vit import DenseViT

# Patches on each side. The published code takes one per 24 or 32 tokens of a side, at least one:
# this, for grids below 48 tokens.
BORDER = 1


def add_border(visual: DenseViT) -> None:
    """Put the border around every image that a dense map is made of."""
    visual.border = BORDER


@dense_mode('border-plain', fit_tower=add_border)
def border_plain(block: BlockView, tokens: Tensor) -> Tensor:
    """Run the last block as the library does, around it the border: UniRefiner's own map."""
    return block.forward(tokens)


@dense_mode('border-value', fit_tower=add_border)
def border_value(block: BlockView, tokens: Tensor) -> Tensor:
    """Run the last block as CLIPSelf's map does (``'value'``), around it the border."""
    return get_dense_mode('value')(block, tokens)
