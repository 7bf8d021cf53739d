"""timm vision transformers as dense encoders: EVA-02-CLIP, SigLIP(2), DINOv2, DINOv3."""

from __future__ import annotations

import copy
from typing import Any

import torch
from open_clip.timm_model import TimmModel
from timm.layers import Format, PatchEmbed, RotaryEmbeddingMixed
from timm.models.eva import Eva, EvaBlock
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn

from .blocks import BlockView, EvaBlockView, TimmBlockView
from .dense_vit import Blocks, DenseViT, Grid

# Enough for multi-scale training; one entry of a 64 x 64 grid takes 2 MiB.
_MAX_CACHED_GRIDS = 16


class TimmViT(DenseViT):
    """Dense encoder over timm's ``VisionTransformer`` and ``Eva``.

    The model is bare or inside open_clip's ``TimmModel``. The trunk is switched to timm's dynamic
    image size, which changes no parameter. RoPE is computed for the true (h, w) of each image and
    cached by that pair.

    Args:
        model: A timm model, or open_clip's adapter around one.
        image_mean: Mean of the RGB channels, in [0, 1].
        image_std: Standard deviation of the RGB channels, in [0, 1].

    Raises:
        ValueError: If the tower is no plain ViT: other model or block types, patch dropout,
            rectangular patches, convolutional poolers.
    """

    def __init__(
        self,
        model: nn.Module,
        image_mean: tuple[float, float, float],
        image_std: tuple[float, float, float],
    ) -> None:
        super().__init__(model, image_mean, image_std)
        trunk = self.trunk
        _check_trunk(trunk)
        _set_dynamic_size(trunk)
        adapter_layers = dict(model.head.named_children()) if isinstance(model, TimmModel) else {}
        if 'pool' in adapter_layers:
            raise ValueError(
                'expected a tower that pools inside timm, got an open_clip attention pool'
            )
        self.patch_size = trunk.patch_embed.patch_size[0]
        self.width = trunk.embed_dim
        self.embed_dim = _output_width(trunk, list(adapter_layers.values()))
        self.num_prefix_tokens = trunk.num_prefix_tokens
        self.native_size = tuple(trunk.patch_embed.img_size)
        self._rope_cache: dict[tuple[Any, ...], Tensor] = {}

    @property
    def trunk(self) -> Any:
        """The timm model, out of open_clip's adapter if there is one."""
        return self.model.trunk if isinstance(self.model, TimmModel) else self.model

    @property
    def blocks(self) -> Blocks:
        """See :attr:`DenseViT.blocks`."""
        return self.trunk.blocks

    @property
    def norm(self) -> nn.Module:
        """See :attr:`DenseViT.norm`; an identity where timm norms after pooling, in the head."""
        return self.trunk.norm

    def block_view(
        self, index: int, grid: Grid, blocks: Blocks | None = None, start: int = 0
    ) -> BlockView:
        """See :meth:`DenseViT.block_view`."""
        block = self.blocks[index] if blocks is None else blocks[index - start]
        if not isinstance(self.trunk, Eva):
            return TimmBlockView(block)
        return EvaBlockView(block, self._rope(index, grid))

    def pool(self, tokens: Tensor) -> Tensor:
        """See :meth:`DenseViT.pool`."""
        pooled = self.trunk.forward_head(self.trunk.norm(tokens))
        return self.model.head(pooled) if isinstance(self.model, TimmModel) else pooled

    def _head(self, tokens: Tensor) -> Tensor:
        """See :meth:`DenseViT._head`."""
        trunk = self.trunk
        if trunk.attn_pool is not None:
            # Attention over a single token is that token's value path: exact for SigLIP's pooling.
            single = tokens.flatten(0, 1)[:, None]
            tokens = trunk.attn_pool(single).unflatten(0, tokens.shape[:2])
        tokens = trunk.head(trunk.head_drop(trunk.fc_norm(tokens)))
        return self.model.head(tokens) if isinstance(self.model, TimmModel) else tokens

    def _embed(self, images: Tensor, grid: Grid) -> Tensor:
        """See :meth:`DenseViT._embed`."""
        trunk = self.trunk
        tokens = trunk._pos_embed(trunk.patch_embed(images))
        return trunk.norm_pre(tokens[0] if isinstance(trunk, Eva) else tokens)

    def _rope(self, index: int, grid: Grid) -> Tensor | None:
        """Return the rotary embedding of a grid for one block, or None if the trunk has none."""
        rope = self.trunk.rope
        if rope is None:
            return None
        if isinstance(rope, RotaryEmbeddingMixed):  # learnt, one per block
            return rope.get_embed(shape=list(grid))[index]
        if rope.training and getattr(rope, 'aug_active', False):  # drawn anew at each call
            return rope.get_embed(shape=list(grid))
        reference = next(rope.buffers())
        key = (*grid, reference.device, reference.dtype)
        if key not in self._rope_cache:
            while len(self._rope_cache) >= _MAX_CACHED_GRIDS:
                self._rope_cache.pop(next(iter(self._rope_cache)))
            self._rope_cache[key] = _rope_embedding(rope, grid)
        return self._rope_cache[key]


def _rope_embedding(rope: Any, grid: Grid) -> Tensor:
    """Compute a fixed rotary embedding ``(h * w, 2 * d)``."""
    # A cache filled under inference mode could not be used by a later training step.
    with torch.inference_mode(False), torch.no_grad():
        if getattr(rope, 'feat_shape', None) is None:
            return rope.get_embed(shape=list(grid))
        # timm's fixed-size RoPE ignores the shape that it is asked for, so a copy is moved to the
        # grid.
        rope = copy.deepcopy(rope)
        rope.update_feat_shape(list(grid))
        return rope.get_embed()


def _check_trunk(trunk: Any) -> None:
    """Raise a ValueError if a timm model is not a ViT that can be taken apart."""
    block_type = {VisionTransformer: Block, Eva: EvaBlock}.get(type(trunk))
    if block_type is None:
        raise ValueError(
            f'expected a timm VisionTransformer or Eva, got {type(trunk).__name__}; choose a plain '
            'ViT'
        )
    if type(trunk.patch_embed) is not PatchEmbed:
        raise ValueError(
            f'expected a plain patch embedding, got {type(trunk.patch_embed).__name__}; choose a '
            'plain ViT'
        )
    kinds = {type(block) for block in trunk.blocks}
    if kinds != {block_type}:
        names = sorted(kind.__name__ for kind in kinds)
        raise ValueError(f'expected blocks of type {block_type.__name__}, got {names}')
    if trunk.patch_drop is not None and not isinstance(trunk.patch_drop, nn.Identity):
        raise ValueError(
            'expected a tower without patch dropout, got one; set patch_drop_rate to 0'
        )
    patch = trunk.patch_embed.patch_size
    if patch[0] != patch[1]:
        raise ValueError(f'expected square patches, got {patch}')


def _set_dynamic_size(trunk: Any) -> None:
    """Set what timm's ``dynamic_img_size=True`` sets, which open_clip's adapter cannot pass on."""
    trunk.dynamic_img_size = True
    trunk.patch_embed.strict_img_size = False
    trunk.patch_embed.flatten = False
    trunk.patch_embed.output_fmt = Format.NHWC


def _output_width(trunk: Any, adapter_layers: list[nn.Module]) -> int:
    """Return the width of the embedding after trunk head and adapter."""
    for layer in reversed(adapter_layers):
        linears = [module for module in layer.modules() if isinstance(module, nn.Linear)]
        if linears:
            return linears[-1].out_features
    return trunk.num_classes or trunk.num_features
