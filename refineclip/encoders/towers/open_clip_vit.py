"""OpenAI and OpenCLIP vision transformers as dense encoders."""

from __future__ import annotations

import torch
from open_clip.transformer import VisionTransformer
from torch import Tensor, nn

from .blocks import BlockView, OpenCLIPBlockView
from .dense_vit import Blocks, DenseViT, Grid


class OpenCLIPViT(DenseViT):
    """Dense encoder over :class:`open_clip.transformer.VisionTransformer`.

    open_clip's own forward accepts its native size only; here the position embedding is resized
    to the grid of the image.

    Args:
        model: The library's vision tower.
        image_mean: Mean of the RGB channels, in [0, 1].
        image_std: Standard deviation of the RGB channels, in [0, 1].
        position_interpolation: See :class:`DenseViT`; plain bicubic as CLIPSelf, CAT-Seg and the
            training-free methods do.

    Raises:
        ValueError: If the tower has an attentional pooler (CoCa), patch dropout or rectangular
            patches.
    """

    def __init__(
        self,
        model: VisionTransformer,
        image_mean: tuple[float, float, float],
        image_std: tuple[float, float, float],
        position_interpolation: str = 'bicubic',
    ) -> None:
        super().__init__(model, image_mean, image_std, position_interpolation)
        if model.attn_pool is not None:
            raise ValueError(
                'expected a tower that pools its tokens, got an attentional pooler (CoCa)'
            )
        if not isinstance(model.patch_dropout, nn.Identity):
            raise ValueError(
                'expected a tower without patch dropout, got one; set patch_dropout to 0'
            )
        if model.patch_size[0] != model.patch_size[1]:
            raise ValueError(f'expected square patches, got {model.patch_size}')
        self.patch_size = model.patch_size[0]
        self.width = model.conv1.out_channels
        self.embed_dim = model.output_dim
        self.num_prefix_tokens = self.num_class_tokens = 1
        self.native_size = tuple(model.image_size)

    @property
    def blocks(self) -> Blocks:
        """See :attr:`DenseViT.blocks`."""
        return self.model.transformer.resblocks

    @property
    def norm(self) -> nn.Module:
        """See :attr:`DenseViT.norm`."""
        return self.model.ln_post

    def block_view(
        self, index: int, grid: Grid, blocks: Blocks | None = None, start: int = 0
    ) -> BlockView:
        """See :meth:`DenseViT.block_view`."""
        return OpenCLIPBlockView(self.blocks[index] if blocks is None else blocks[index - start])

    def pool(self, tokens: Tensor) -> Tensor:
        """See :meth:`DenseViT.pool`."""
        pooled, _ = self.model._pool(tokens)
        return pooled @ self.model.proj

    def _head(self, tokens: Tensor) -> Tensor:
        """See :meth:`DenseViT._head`."""
        return tokens @ self.model.proj

    def _embed(self, images: Tensor, grid: Grid) -> Tensor:
        """See :meth:`DenseViT._embed`."""
        model = self.model
        patches = model.conv1(images).flatten(2).transpose(1, 2)
        prefix = model.class_embedding.to(patches.dtype).expand(patches.shape[0], 1, -1)
        position = self._position(model.positional_embedding[None], model.grid_size, grid)
        return model.ln_pre(torch.cat((prefix, patches), dim=1) + position.to(patches.dtype))
