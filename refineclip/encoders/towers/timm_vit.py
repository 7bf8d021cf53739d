"""timm vision transformers as dense encoders: EVA-02, SigLIP, PE, DINO, RADIO, TIPS, MobileCLIP."""

from __future__ import annotations

import copy
from typing import Any

import torch
from open_clip.timm_model import TimmModel
from timm.layers import HybridEmbed, PatchEmbed, RotaryEmbeddingMixed
from timm.models.eva import Eva, EvaBlock
from timm.models.fastvit import FastVit
from timm.models.naflexvit import NaFlexVit
from timm.models.vision_transformer import Block, VisionTransformer
from timm.models.vision_transformer_hybrid import ConvStem
from torch import Tensor, nn

from .blocks import BlockView, EvaBlockView, TimmBlockView
from .dense_vit import Blocks, DenseViT, Grid
from .position_interpolation import default_position_interpolation

_INSTEAD = {
    FastVit: (
        'a convolutional network whose last stage has a stride of 32 or 64 pixels; take '
        'MobileCLIP2-B or MobileCLIP2-L-14'
    ),
    NaFlexVit: (
        "whose patches and positions travel as dictionaries; take timm's tower of fixed size with "
        "the same weights, e.g. 'ViT-B-16-SigLIP2' or 'timm/vit_base_patch16_radio_v3'"
    ),
}

# Enough for multi-scale training; one entry of a 64 x 64 grid takes 2 MiB.
_MAX_CACHED_GRIDS = 16


class TimmViT(DenseViT):
    """Dense encoder over timm's ``VisionTransformer`` and ``Eva``.

    The model is bare or inside open_clip's ``TimmModel``. Its parameters are not changed; position
    embedding and RoPE are computed here for the true (h, w) of each image, as the family's
    published code does: RoPE of EVA-02 is rescaled to the grid it was trained on, that of
    Perception Encoder counts on.

    Args:
        model: A timm model, or open_clip's adapter around one.
        image_mean: Mean of the RGB channels, in [0, 1].
        image_std: Standard deviation of the RGB channels, in [0, 1].
        position_interpolation: See :class:`DenseViT`; None takes that of the published code.

    Raises:
        ValueError: If the tower is no plain ViT: other model or block types, patch dropout,
            rectangular patches, convolutional poolers.
    """

    def __init__(
        self,
        model: nn.Module,
        image_mean: tuple[float, float, float],
        image_std: tuple[float, float, float],
        position_interpolation: str | None = None,
    ) -> None:
        trunk: Any = model.trunk if isinstance(model, TimmModel) else model
        _check_trunk(trunk)
        architecture = trunk.pretrained_cfg.get('architecture', '')
        if position_interpolation is None:
            position_interpolation = default_position_interpolation(architecture)
        super().__init__(model, image_mean, image_std, position_interpolation)
        trunk.patch_embed.strict_img_size = False
        adapter_layers = dict(model.head.named_children()) if isinstance(model, TimmModel) else {}
        if 'pool' in adapter_layers:
            raise ValueError(
                'expected a tower that pools inside timm, got an open_clip attention pool'
            )
        self.patch_size = _patch_size(trunk)
        self.width = trunk.embed_dim
        self.embed_dim = _output_width(trunk, list(adapter_layers.values()))
        self.num_prefix_tokens = trunk.num_prefix_tokens
        self.num_class_tokens = int(trunk.cls_token is not None)
        self.native_size = tuple(trunk.patch_embed.img_size)
        self._rope_counts_on = architecture.startswith('vit_pe_')
        self._rope_cache: dict[tuple[Any, ...], Tensor] = {}

    def train(self, mode: bool = True) -> TimmViT:
        """Set the mode; a frozen patch embedding stays in eval: MobileCLIP's has batch norms."""
        super().train(mode)
        stem = self.trunk.patch_embed
        if not any(parameter.requires_grad for parameter in stem.parameters()):
            stem.eval()
        return self

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
        patches = trunk.patch_embed(images)
        if patches.ndim == 4:  # (B, h, w, W): built for dynamic sizes
            patches = patches.flatten(1, 2)
        prefix = [
            token.expand(images.shape[0], -1, -1)
            for token in (trunk.cls_token, trunk.reg_token)
            if token is not None
        ]
        tokens = torch.cat([*prefix, patches], dim=1)
        if trunk.pos_embed is not None:
            position = self._position(trunk.pos_embed, trunk.patch_embed.grid_size, grid)
            # Without slots for class and register tokens, those get nothing added.
            missing = tokens.shape[1] - position.shape[1]
            tokens = tokens + nn.functional.pad(position, (0, 0, missing, 0))
        return trunk.norm_pre(trunk.pos_drop(tokens))

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
            self._rope_cache[key] = _rope_embedding(rope, grid, self._rope_counts_on)
        return self._rope_cache[key]


def _rope_embedding(rope: Any, grid: Grid, counts_on: bool) -> Tensor:
    """Compute a fixed rotary embedding ``(h * w, 2 * d)``.

    Args:
        rope: timm's module.
        grid: Token grid (h, w).
        counts_on: Positions are 1, 2, 3, ... on every grid, where timm would squeeze a larger grid
            into the trained one.
    """
    # A cache filled under inference mode could not be used by a later training step.
    with torch.inference_mode(False), torch.no_grad():
        rope = copy.deepcopy(rope)
        if counts_on:
            rope.ref_feat_shape = None
        if getattr(rope, 'feat_shape', None) is None:
            return rope.get_embed(shape=list(grid))
        # timm's fixed-size RoPE ignores the shape that it is asked for, so the copy is moved to the
        # grid.
        if counts_on:  # by a detour, because equal shapes would not be computed anew
            rope.update_feat_shape([grid[0] + 1, grid[1]])
        rope.update_feat_shape(list(grid))
        return rope.get_embed()


def _check_trunk(trunk: Any) -> None:
    """Raise a ValueError if a timm model is not a ViT that can be taken apart."""
    block_type = {VisionTransformer: Block, Eva: EvaBlock}.get(type(trunk))
    if block_type is None:
        instead = _INSTEAD.get(type(trunk))
        raise ValueError(
            f'expected a timm VisionTransformer or Eva, got {type(trunk).__name__}'
            + (f', {instead}' if instead else '; choose a plain ViT')
        )
    stem = trunk.patch_embed
    # MobileCLIP's stem: convolutions without overlap, so a token still sees its own patch only.
    is_stem = type(stem) is HybridEmbed and type(stem.backbone) is ConvStem
    if type(stem) is not PatchEmbed and not is_stem:
        raise ValueError(
            f'expected a plain patch embedding, got {type(stem).__name__}; choose a plain ViT'
        )
    kinds = {type(block) for block in trunk.blocks}
    if kinds != {block_type}:
        names = sorted(kind.__name__ for kind in kinds)
        raise ValueError(f'expected blocks of type {block_type.__name__}, got {names}')
    if trunk.patch_drop is not None and not isinstance(trunk.patch_drop, nn.Identity):
        raise ValueError(
            'expected a tower without patch dropout, got one; set patch_drop_rate to 0'
        )
    patch = stem.patch_size
    if patch[0] != patch[1]:
        raise ValueError(f'expected square patches, got {patch}')


def _patch_size(trunk: Any) -> int:
    """Return the pixels of a patch; behind a convolutional stem, its stride counts as well."""
    stem = trunk.patch_embed
    ratio = stem.feature_ratio[0] if isinstance(stem, HybridEmbed) else 1
    return ratio * stem.patch_size[0]


def _output_width(trunk: Any, adapter_layers: list[nn.Module]) -> int:
    """Return the width of the embedding after trunk head and adapter."""
    for layer in reversed(adapter_layers):
        linears = [module for module in layer.modules() if isinstance(module, nn.Linear)]
        if linears:
            return linears[-1].out_features
    return trunk.num_classes or trunk.num_features
