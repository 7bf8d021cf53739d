"""The one protocol for vision transformers with dense maps, whatever library built them."""

from __future__ import annotations

import logging
from abc import abstractmethod
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.logging import print_log
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.checkpoint import checkpoint

from .blocks import BlockView
from .dense_modes import (
    check_dense_mode,
    get_dense_mode,
    mode_fits_tower,
    num_blocks_of_mode,
)
from .position_interpolation import check_position_interpolation, resize_position

# Kernels of scaled dot product attention that have no float32.
HALF_ONLY = (SDPBackend.FLASH_ATTENTION, SDPBackend.CUDNN_ATTENTION)

# nn.ModuleList in open_clip and Eva, nn.Sequential in timm's ViT; their slices share no type.
Blocks = Any
Grid = tuple[int, int]


class DenseViT(nn.Module):
    """A library ViT that gives a token map for any image size that is a multiple of its patch.

    The tower itself is untouched: its parameters keep the library's names under ``model.``. Shapes:
    B images, N tokens (prefix tokens first, then the grid row by row), W token width, D embedding,
    (h, w) token grid.

    Args:
        model: The library's vision tower.
        image_mean: Mean of the RGB channels, in [0, 1].
        image_std: Standard deviation of the RGB channels, in [0, 1].
        position_interpolation: How the position embedding is resized to other grids, a key of
            :data:`refineclip.encoders.position_interpolation.POSITION_INTERPOLATIONS`.

    Attributes:
        patch_size: Side of a patch in pixels.
        width: Token width W.
        embed_dim: Width D of what :meth:`project` returns.
        num_prefix_tokens: Class and register tokens before the grid.
        num_class_tokens: How many of those are class tokens: 1, or 0.
        native_size: (height, width) in pixels that the position embedding was made for.
        with_cp: Recompute blocks in the backward pass to save memory.
        attention_backend: Kernel that scaled dot product attention must take; None lets PyTorch
            choose, which it also does for float32 where the kernel has half precision only.
        border: Patches of value 0 (the mean colour) that are put around every image of a dense map,
            on each side; the map leaves them out. A dense mode sets it.
        fitted_modes: Dense modes that the tower was fitted to.
    """

    patch_size: int
    width: int
    embed_dim: int
    num_prefix_tokens: int
    num_class_tokens: int
    native_size: tuple[int, int]

    def __init__(
        self,
        model: nn.Module,
        image_mean: tuple[float, float, float],
        image_std: tuple[float, float, float],
        position_interpolation: str,
    ) -> None:
        super().__init__()
        # Any: the libraries' towers share no type; what is read of them is named in each subclass.
        self.model: Any = model
        self.image_mean = tuple(image_mean)
        self.image_std = tuple(image_std)
        self.position_interpolation = check_position_interpolation(position_interpolation)
        self.with_cp = False
        self.attention_backend: SDPBackend | None = None
        self.border = 0
        self.fitted_modes: set[str] = set()
        self._warned = False

    @property
    def num_blocks(self) -> int:
        """Number of transformer blocks."""
        return len(self.blocks)

    @property
    @abstractmethod
    def blocks(self) -> Blocks:
        """The library's transformer blocks."""

    @property
    @abstractmethod
    def norm(self) -> nn.Module:
        """The library's final norm, applied to each token."""

    @abstractmethod
    def block_view(
        self, index: int, grid: Grid, blocks: Blocks | None = None, start: int = 0
    ) -> BlockView:
        """Return block ``index`` taken apart.

        Args:
            index: Index of the block in the tower.
            grid: Token grid (h, w), which rotary embeddings depend on.
            blocks: Other blocks in place of the tower's, ``blocks[0]`` standing for block
                ``start``.
            start: Index in the tower of ``blocks[0]``.
        """

    @abstractmethod
    def pool(self, tokens: Tensor) -> Tensor:
        """Map last-block tokens ``(B, N, W)`` to image embeddings ``(B, D)``, as the library."""

    @abstractmethod
    def _head(self, tokens: Tensor) -> Tensor:
        """Map normed tokens ``(B, N, W)`` to ``(B, N, D)``, each token alone."""

    @abstractmethod
    def _embed(self, images: Tensor, grid: Grid) -> Tensor:
        """Embed images ``(B, 3, H, W)`` of a checked size; returns ``(B, N, W)``."""

    def embed(self, images: Tensor, border: int | None = None) -> tuple[Tensor, Grid]:
        """Embed normalised images, with the border if the tower has one.

        Args:
            images: Float images ``(B, 3, H, W)``, normalised with ``image_mean`` and ``image_std``;
                H and W are any multiples of the patch size.
            border: Patches of border in place of the tower's own.

        Returns:
            Tokens ``(B, N, W)`` before the first block, prefix tokens included, and the grid (h,
            w), border included.

        Raises:
            ValueError: If the shape is not ``(B, 3, H, W)`` or H or W is no multiple of the patch
                size.
            TypeError: If the images are not floating point.
        """
        if images.ndim != 4 or images.shape[1] != 3:
            raise ValueError(f'expected images (B, 3, H, W), got {tuple(images.shape)}')
        if not images.is_floating_point():
            raise TypeError(
                f'expected normalised float images, got {images.dtype}; scale and normalise first'
            )
        height, width = self._grid(images.shape[2], images.shape[3])
        border = self.border if border is None else border
        if border:
            images = F.pad(images, [border * self.patch_size] * 4)
        grid = height + 2 * border, width + 2 * border
        return self._embed(images, grid), grid

    def _position(self, position: Tensor, native: Grid, grid: Grid) -> Tensor:
        """Resize a position embedding ``(1, N, W)`` of a native grid; prefix slots are kept."""
        prefix, patches = position.split(
            [position.shape[1] - native[0] * native[1], native[0] * native[1]], dim=1
        )
        patches = resize_position(patches, native, grid, self.position_interpolation)
        return torch.cat((prefix, patches), dim=1)

    def _grid(self, height: int, width: int) -> Grid:
        """Return the token grid of an image size in pixels."""
        patch = self.patch_size
        if height % patch or width % patch or min(height, width) < patch:
            near = [
                (max(patch, n // patch * patch), -(-n // patch) * patch) for n in (height, width)
            ]
            raise ValueError(
                f'expected height and width that are multiples of the patch size {patch}, got '
                f'{height} x {width}; the nearest valid sizes are {near[0][0]} x {near[1][0]} and '
                f'{near[0][1]} x {near[1][1]}'
            )
        return height // patch, width // patch

    def run(
        self,
        tokens: Tensor,
        grid: Grid,
        start: int = 0,
        stop: int | None = None,
        blocks: Blocks | None = None,
    ) -> Tensor:
        """Run the blocks [start, stop) as the library does.

        Args:
            tokens: Tokens ``(B, N, W)`` before block ``start``.
            grid: Token grid (h, w).
            start: First block.
            stop: One past the last block; all that follow by default.
            blocks: Other blocks in place of the tower's, ``blocks[0]`` standing for block
                ``start``.

        Returns:
            Tokens ``(B, N, W)``.
        """
        stop = self.num_blocks if stop is None else stop
        if not 0 <= start <= stop <= self.num_blocks:
            raise ValueError(
                f'expected 0 <= start <= stop <= {self.num_blocks} blocks, got start={start}, '
                f'stop={stop}'
            )
        for index in range(start, stop):
            view = self.block_view(index, grid, blocks, start)
            tokens = self._call(view.forward, tokens)
        return tokens

    def run_dense(
        self, tokens: Tensor, grid: Grid, start: int, mode: str, blocks: Blocks | None = None
    ) -> Tensor:
        """Run from block ``start`` to the end, the last block in a dense mode.

        Args:
            tokens: Tokens ``(B, N, W)`` before block ``start``.
            grid: Token grid (h, w).
            start: First block.
            mode: Name of the dense mode of the last block.
            blocks: Other blocks in place of the tower's, ``blocks[0]`` standing for block
                ``start``.

        Returns:
            Tokens ``(B, N, W)``.
        """
        check_dense_mode(mode, self.num_class_tokens)
        if mode_fits_tower(mode) and mode not in self.fitted_modes:
            raise ValueError(
                f'dense mode {mode!r} needs a tower that is fitted to it, got one that is not; '
                f'build it as RefinerCLIP(dense_mode={mode!r}), or call dense_modes.fit_tower'
            )
        function, replaced = get_dense_mode(mode), num_blocks_of_mode(mode)
        first = self.num_blocks - replaced
        if start > first:
            raise ValueError(
                f'dense mode {mode!r} replaces the last {replaced} blocks: expected tokens before '
                f'block {max(first, 0)} of {self.num_blocks}, got those before block {start}'
            )
        tokens = self.run(tokens, grid, start, first, blocks)
        views = [self.block_view(i, grid, blocks, start) for i in range(first, self.num_blocks)]
        view = views if replaced > 1 else views[0]
        return self._call(lambda x: function(view, x), tokens)

    def _call(self, function: Any, tokens: Tensor) -> Tensor:
        """Call a function of the tokens, recomputed in the backward pass if ``with_cp``."""
        if tokens.shape[0] == 0:  # a batch without regions; torch 2.4's flash attention refuses it
            return tokens
        if self.attention_backend is not None and self._kernel_takes(tokens):
            function = sdpa_kernel(self.attention_backend)(function)
        if self.with_cp and torch.is_grad_enabled():
            return checkpoint(function, tokens, use_reentrant=False)
        return function(tokens)

    def _kernel_takes(self, tokens: Tensor) -> bool:
        """Whether attention on these tokens is in a type that the chosen kernel has."""
        half = tokens.dtype in (torch.float16, torch.bfloat16)
        if half or torch.is_autocast_enabled(tokens.device.type):
            return True
        if self.attention_backend not in HALF_ONLY:
            return True
        if self.training and torch.is_grad_enabled() and not self._warned:
            self._warned = True
            print_log(
                f'attention_backend={self.attention_backend} has half precision only, and this '
                'training runs in float32: PyTorch chooses. Train with AmpOptimWrapper.',
                logger='current',
                level=logging.WARNING,
            )
        return False

    def project(self, tokens: Tensor) -> Tensor:
        """Apply the final norm and the head to each token alone.

        Args:
            tokens: Tokens ``(B, N, W)`` after the last block; any N.

        Returns:
            Embeddings ``(B, N, D)``, not normalised.
        """
        return self._head(self.norm(tokens))

    def to_map(self, tokens: Tensor, grid: Grid, border: int | None = None) -> Tensor:
        """Drop prefix and border of tokens ``(B, N, C)``; the rest as a map ``(B, C, h, w)``.

        Args:
            tokens: Tokens of a grid.
            grid: The grid, border included, as :meth:`embed` returns it.
            border: Patches to drop on each side, in place of the tower's own border.
        """
        height, width = grid
        expected = self.num_prefix_tokens + height * width
        if tokens.shape[1] != expected:
            raise ValueError(
                f'expected {self.num_prefix_tokens} prefix + {height} x {width} = {expected} '
                f'tokens, got {tokens.shape[1]}'
            )
        maps = tokens[:, self.num_prefix_tokens :].transpose(1, 2).unflatten(2, grid)
        border = self.border if border is None else border
        rows, columns = (slice(border, side - border) for side in grid)
        return maps[..., rows, columns]

    def dense(self, images: Tensor, mode: str = 'value', normalize: bool = False) -> Tensor:
        """Return the dense map of images in the joint embedding space.

        Args:
            images: Normalised float images ``(B, 3, H, W)``.
            mode: Name of a dense mode (:mod:`refineclip.encoders.towers.dense_modes`).
            normalize: L2-normalise along the channels.

        Returns:
            Map ``(B, D, h, w)``.
        """
        check_dense_mode(mode, self.num_class_tokens)  # fails before the blocks run
        tokens, grid = self.embed(images)
        features = self.to_map(self.project(self.run_dense(tokens, grid, 0, mode)), grid)
        return F.normalize(features, dim=1) if normalize else features

    def image_embedding(self, images: Tensor) -> Tensor:
        """Return the library's image embedding ``(B, D)`` at any valid size, not normalised.

        Without the border: the class token is read as it was trained.
        """
        if images.shape[0] == 0:  # as in _call, for towers that pool by attention
            return images.new_zeros(0, self.embed_dim)
        tokens, grid = self.embed(images, border=0)
        return self.pool(self.run(tokens, grid))

    def forward(self, images: Tensor) -> Tensor:
        """Same as :meth:`image_embedding`."""
        return self.image_embedding(images)

    def extra_repr(self) -> str:
        """Name what no parameter shows, for prints and for the hashes of caches."""
        border = f', border={self.border}' if self.border else ''
        return f'position_interpolation={self.position_interpolation!r}{border}'

    def freeze(self, trainable_blocks: int = 0) -> DenseViT:
        """Let only the last blocks learn.

        Embeddings, final norm and head stay frozen, as in CLIPSelf.

        Args:
            trainable_blocks: How many blocks at the end require a gradient, 0 to ``num_blocks``.

        Returns:
            Self. Training or evaluation mode is left to the caller.
        """
        if not 0 <= trainable_blocks <= self.num_blocks:
            raise ValueError(
                f'expected 0 to {self.num_blocks} trainable blocks, got {trainable_blocks}'
            )
        self.requires_grad_(False)
        for index in range(self.num_blocks - trainable_blocks, self.num_blocks):
            self.blocks[index].requires_grad_(True)
        return self
