"""RefinerCLIP: any CLIP-like ViT, refined or to be refined, as an OpenMMLab backbone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import Tensor
from torch.nn.attention import SDPBackend

from .build import build_clip
from .map_pyramid import MapPyramid
from .refiner import Refiner
from .towers.dense_modes import (
    check_dense_mode,
    fit_tower,
    get_dense_mode,
    num_blocks_of_mode,
)
from .weights.checkpoint_file import read_checkpoint
from .weights.checkpoint_guard import require_whole_checkpoint
from .weights.loading import has_submodule, load_submodule

ATTENTION_BACKENDS = {
    'flash': SDPBackend.FLASH_ATTENTION,
    'cudnn': SDPBackend.CUDNN_ATTENTION,
    'efficient': SDPBackend.EFFICIENT_ATTENTION,
    'math': SDPBackend.MATH,
}


@MODELS.register_module()
class RefinerCLIP(BaseModule):
    """A dense CLIP encoder with an optional Refiner, for mmengine, mmdet and mmseg configs.

    Input images are normalised by the data preprocessor of the host (CLIP's mean and std:
    :attr:`image_mean`, :attr:`image_std`, times 255); height and width are multiples of the patch.

    Args:
        model: Name of open_clip (``'ViT-B-16'``, ``'EVA02-B-16'``), of timm (``'timm/...'``,
            vision only), or an inline open_clip config.
        pretrained: Tag of the library, file, ``'local-dir:...'``, or ``None`` (random weights).
        model_kwargs: Extra arguments of the timm model (toy sizes in tests).
        position_interpolation: How the position embedding is resized to other image sizes; None
            takes that of the tower's published code. See
            :func:`refineclip.encoders.build.build_clip`.
        dense_mode: What the last block does for dense maps; ``'value'`` is CLIPSelf's. See
            :func:`refineclip.encoders.dense_modes.list_dense_modes`.
        refiner: ``dict(num_blocks=3, input='block', checkpoint=None)``; with it, dense maps are the
            refined ones. ``checkpoint`` is what stage 1 (``RefinerTraining``) saved.
        out_indices: Blocks (0-based) whose tokens are returned as maps with ``width`` channels; the
            last block's tokens are those of ``dense_mode`` (refined, with a Refiner). ``None``
            returns one map: the projected embedding, ``embed_dim`` channels.
        out_strides: Resize the maps to these strides (pixels), one per map.
        out_channels: Learn a 1x1 convolution to these channels, one per map. Both together make
            the backbone fit a stock neck, for example ``(4, 8, 16, 32)`` and
            ``(256, 512, 1024, 2048)``.
        frozen: Keep encoder and Refiner fixed, in eval mode and without gradient.
        trainable_blocks: With ``frozen=False``, train only the last n blocks (default all).
            Patch and position embedding, final norm and head are always fixed, as in CLIPSelf.
        with_cp: Recompute the blocks' activations in the backward pass to save memory.
        attention_backend: ``'flash'``, ``'cudnn'``, ``'efficient'`` or ``'math'``: the kernel that
            scaled dot product attention must take, or fail. None (default) lets PyTorch choose; so
            do ``'flash'`` and ``'cudnn'``, which have half precision only, for float32.
        compile_blocks: Arguments of :meth:`torch.nn.Module.compile` for every block of encoder and
            Refiner, ``dict()`` for its defaults; None (default) runs eagerly. Compiling blocks one
            by one costs seconds once, the whole model minutes; the dense mode of the last block
            stays eager.
        init_cfg: ``dict(type='Pretrained', checkpoint=...)`` loads what stage 2 saved.

    Raises:
        ValueError: On an unknown model, mode or index.
        FileNotFoundError: When a weight file does not exist.
    """

    def __init__(
        self,
        model: str | dict,
        pretrained: str | None = None,
        model_kwargs: dict | None = None,
        position_interpolation: str | None = None,
        dense_mode: str = 'value',
        refiner: dict | None = None,
        out_indices: Sequence[int] | None = None,
        out_strides: Sequence[float] | None = None,
        out_channels: Sequence[int] | None = None,
        frozen: bool = True,
        trainable_blocks: int | None = None,
        with_cp: bool = False,
        attention_backend: str | None = None,
        compile_blocks: dict | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(init_cfg)
        get_dense_mode(dense_mode)  # an unknown name fails before any weight is read
        self.visual = build_clip(
            model,
            pretrained,
            text=False,
            model_kwargs=model_kwargs,
            position_interpolation=position_interpolation,
        ).visual
        check_dense_mode(dense_mode, self.visual.num_class_tokens)
        fit_tower(dense_mode, self.visual)
        self.visual.with_cp = with_cp
        self.visual.attention_backend = _attention_backend(attention_backend)
        self.dense_mode = dense_mode
        self.refiner = None if refiner is None else self._build_refiner(**refiner)
        self._refiner_is_trained = bool(refiner and refiner.get('checkpoint'))
        self.out_indices = self._check_indices(out_indices)
        channels = self.embed_dim if self.out_indices is None else self.visual.width
        self.pyramid = MapPyramid(channels, self.visual.patch_size, out_strides, out_channels)
        self.frozen = frozen
        last = self.visual.num_blocks if trainable_blocks is None else trainable_blocks
        self.visual.freeze(0 if frozen else last)
        if compile_blocks is not None:
            for blocks in (self.visual.blocks, getattr(self.refiner, 'blocks', ())):
                for block in blocks:
                    block.compile(**compile_blocks)
        require_whole_checkpoint(self)
        self.train()

    def _build_refiner(self, checkpoint: str | None = None, **kwargs: Any) -> Refiner:
        refiner = Refiner(self.visual, **kwargs).requires_grad_(False)
        if checkpoint is not None:
            load_submodule(refiner, checkpoint, 'refiner.')
        return refiner

    def _check_indices(self, indices: Sequence[int] | None) -> tuple[int, ...] | None:
        if indices is None:
            return None
        depth = self.visual.num_blocks
        if list(indices) != sorted(set(indices)) or not all(0 <= i < depth for i in indices):
            raise ValueError(
                f'out_indices: expected increasing block indices in [0, {depth - 1}], got {indices}'
            )
        return tuple(indices)

    @property
    def embed_dim(self) -> int:
        """Channels D of the projected dense map."""
        return self.visual.embed_dim

    @property
    def image_mean(self) -> tuple[float, ...]:
        """Mean the encoder was trained with, values in [0, 1]."""
        return self.visual.image_mean

    @property
    def image_std(self) -> tuple[float, ...]:
        """Standard deviation the encoder was trained with, values in [0, 1]."""
        return self.visual.image_std

    @property
    def trunk_depth(self) -> int:
        """Blocks that the plain and the refined map share."""
        if self.refiner is None or self.refiner.input == 'output':
            return self.visual.num_blocks - num_blocks_of_mode(self.dense_mode)
        return self.visual.num_blocks - self.refiner.num_blocks

    def init_weights(self) -> None:
        """Load ``init_cfg``'s checkpoint strictly; mmengine would skip what does not fit.

        A local file may hold the backbone alone (``refined_*.pth``) or a whole model that owns it
        (``student.*``, ``backbone.*``, or the ``prefix`` of ``init_cfg``). It fills the encoder;
        the 1x1 adapters and a Refiner without a checkpoint of its own too, if the file has them.
        Other forms of ``init_cfg`` are left to mmengine.
        """
        cfg = self.init_cfg
        pretrained = isinstance(cfg, dict) and cfg['type'] == 'Pretrained'
        if pretrained and cfg['checkpoint'] is None:  # a config's place for --cfg-options
            self._is_init = True
            return
        if not pretrained or '://' in cfg['checkpoint']:
            super().init_weights()
            return
        path, owner = cfg['checkpoint'], cfg.get('prefix', '')
        state = read_checkpoint(path)
        if not has_submodule(state, f'{owner}visual.model.'):
            raise ValueError(
                f'init_cfg.checkpoint: expected what stage 2 saves ({owner}visual.model.*), got '
                f'keys like {list(state)[:3]} in {path}; weights of a library or of other code go '
                'into pretrained, which knows their names'
            )
        load_submodule(self.visual, path, f'{owner}visual.', state)
        if self.pyramid.projections is not None and has_submodule(state, f'{owner}pyramid.'):
            load_submodule(self.pyramid, path, f'{owner}pyramid.', state)
        if self.refiner is not None and not self._refiner_is_trained:
            if has_submodule(state, f'{owner}refiner.'):
                load_submodule(self.refiner, path, f'{owner}refiner.', state)
            else:
                self.refiner.copy_from(self.visual)
        self._is_init = True

    def train(self, mode: bool = True) -> RefinerCLIP:
        """Set the mode; a frozen encoder stays in eval."""
        super().train(mode)
        if self.frozen:
            self.visual.eval()
            # Stage 1 trains the Refiner of a frozen encoder.
            if self.refiner is not None and not self.refiner.trains:
                self.refiner.eval()
        return self

    def trunk(self, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
        """Tokens (B, N, W) after the shared blocks, and their grid, of normalised images."""
        tokens, grid = self.visual.embed(images)
        return self.visual.run(tokens, grid, 0, self.trunk_depth), grid

    def plain_tokens(self, trunk: Tensor, grid: tuple[int, int]) -> Tensor:
        """Last-block tokens (B, N, W) of the encoder itself, from the trunk's tokens."""
        return self.visual.run_dense(trunk, grid, self.trunk_depth, self.dense_mode)

    def refined_tokens(self, trunk: Tensor, grid: tuple[int, int]) -> Tensor:
        """Last-block tokens (B, N, W) of the Refiner, from the trunk's tokens."""
        if self.refiner is None:
            raise ValueError('expected refiner=dict(...) in the config of RefinerCLIP, got None')
        if self.refiner.input == 'output':
            trunk = self.visual.run(trunk, grid, self.trunk_depth)
        return self.refiner(trunk, grid, self.visual, self.dense_mode)

    def dense_tokens(self, trunk: Tensor, grid: tuple[int, int]) -> Tensor:
        """The refined tokens where there is a Refiner, the plain ones otherwise."""
        return (self.plain_tokens if self.refiner is None else self.refined_tokens)(trunk, grid)

    def embedding_map(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        """Project last-block tokens (B, N, W) to a dense embedding map (B, D, h, w)."""
        return self.visual.to_map(self.visual.project(tokens), grid)

    def project_map(self, tokens: Tensor) -> Tensor:
        """Project a map of last-block tokens (B, W, h, w), as ``out_indices`` gives it.

        Returns:
            Embedding map (B, D, h, w), that of :meth:`dense` without another forward pass.
        """
        projected = self.visual.project(tokens.flatten(2).transpose(1, 2))
        return projected.transpose(1, 2).unflatten(2, tokens.shape[2:])

    def dense(self, images: Tensor) -> Tensor:
        """Dense embedding map (B, D, h, w), not normalised, of normalised images (B, 3, H, W)."""
        trunk, grid = self.trunk(images)
        return self.embedding_map(self.dense_tokens(trunk, grid), grid)

    def image_embedding(self, images: Tensor) -> Tensor:
        """The library's own image embedding (B, D)."""
        return self.visual.image_embedding(images)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Return the maps of ``out_indices`` (or the one embedding map), each (B, C, h, w)."""
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            # Tokens lie in memory channels-last; convolutions may keep that, for a batch and not
            # for one image, and mmcv's RoIAlign reads memory as if it were not so.
            maps = [one.contiguous() for one in self._maps(images)]
        return self.pyramid(maps)

    def _maps(self, images: Tensor) -> list[Tensor]:
        if self.out_indices is None:
            return [self.dense(images)]
        tokens, grid = self.visual.embed(images)
        last = self.visual.num_blocks - 1
        taps, depth = {}, 0
        for stop in sorted({self.trunk_depth, *(i + 1 for i in self.out_indices if i < last)}):
            tokens = self.visual.run(tokens, grid, depth, stop)
            taps[stop], depth = tokens, stop
        if last in self.out_indices:
            taps[last + 1] = self.dense_tokens(taps[self.trunk_depth], grid)
        return [self.visual.to_map(taps[i + 1], grid) for i in self.out_indices]


def _attention_backend(name: str | None) -> SDPBackend | None:
    if name is None:
        return None
    if name not in ATTENTION_BACKENDS:
        raise ValueError(
            f'attention_backend: expected one of {sorted(ATTENTION_BACKENDS)} or None, got {name!r}'
        )
    return ATTENTION_BACKENDS[name]
