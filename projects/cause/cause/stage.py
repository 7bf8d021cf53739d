"""What the three stages share: a frozen encoder, its tokens, and loading an earlier stage."""

from __future__ import annotations

import logging
from abc import abstractmethod
from typing import Any

import torch
from mmengine.logging import print_log
from mmengine.model import BaseModel, ImgDataPreprocessor
from mmengine.registry import MODELS
from torch import Tensor, nn
from torch.nn import functional as F

from refineclip.distill.distillation_model import check_finite
from refineclip.distill.feature_cache import FeatureCache
from refineclip.distill.region_batch import RegionBatch
from refineclip.encoders.weights.checkpoint_file import read_checkpoint
from refineclip.encoders.weights.loading import has_submodule, load_submodule
from refineclip.encoders.weights.weights_hash import weights_hash

Grid = tuple[int, int]


class CauseStage(BaseModel):
    """Base of the stages: ``loss`` trains on the frozen tokens of a batch.

    Args:
        encoder: Config of :class:`refineclip.encoders.RefinerCLIP`, kept frozen. Tokens are its
            dense map, or the last map of ``out_indices``.
        data_preprocessor: Config of mmengine's ``ImgDataPreprocessor`` with the encoder's mean and
            std, times 255.
        cache_dir: Keep the frozen tokens of the training crops here (float16). Pays from the second
            epoch or stage on; a crop of 320 px at D = 512 and patch 16 takes 0.4 MB.
        init_cfg: As for mmengine's models.

    Raises:
        ValueError: If the encoder learns a projection (``out_channels``).
    """

    def __init__(
        self,
        encoder: dict,
        data_preprocessor: dict | None = None,
        cache_dir: str | None = None,
        init_cfg: dict | None = None,
    ) -> None:
        super().__init__(data_preprocessor, init_cfg)
        self.cache_dir = cache_dir
        self._cache: FeatureCache | None = None
        self.encoder = MODELS.build({**encoder, 'frozen': True})
        if self.encoder.pyramid.projections is not None:
            raise ValueError(
                'encoder.out_channels: expected none, because the encoder stays frozen and the '
                f'projection would stay random; got {encoder["out_channels"]}'
            )
        self._check_normalization()

    def _check_normalization(self) -> None:
        preprocessor = self.data_preprocessor
        if not isinstance(preprocessor, ImgDataPreprocessor) or not hasattr(preprocessor, 'mean'):
            return
        if preprocessor.mean.is_meta:  # built to be counted, not to be run
            return
        own = torch.tensor([self.encoder.image_mean, self.encoder.image_std]) * 255
        given = torch.stack([preprocessor.mean.flatten(), preprocessor.std.flatten()]).to(own)
        if torch.allclose(own, given.expand_as(own), atol=1.0):
            return
        print_log(
            f'data_preprocessor: mean and std are {given.tolist()}, but the encoder was trained '
            f'with {own.tolist()}',
            logger='current',
            level=logging.WARNING,
        )

    @property
    def token_dims(self) -> int:
        """Channels D of the frozen tokens."""
        encoder = self.encoder
        return encoder.embed_dim if encoder.out_indices is None else encoder.visual.width

    @torch.no_grad()
    def tokens(self, images: Tensor) -> tuple[Tensor, Grid]:
        """Frozen tokens (B, N, D), L2-normalised, of normalised images, and their grid (h, w)."""
        feature = self.encoder(images)[-1]
        tokens = feature.flatten(2).transpose(1, 2).float()
        return F.normalize(tokens, dim=-1), (feature.shape[2], feature.shape[3])

    def training_tokens(
        self, images: Tensor, img_path: list[str] | None, crop_box: Tensor | None
    ) -> Tensor:
        """Frozen tokens (B, N, D) of a training batch, from the cache where there is one."""
        if self.cache_dir is None:
            return self.tokens(images)[0]
        if img_path is None or crop_box is None:
            raise ValueError(
                'cache_dir: expected img_path and crop_box in the batch, got none; train on a data '
                'set of this project, or without a cache'
            )
        if self._cache is None:
            self._cache = self._open_cache(images.shape[-1])
        # The cache asks for regions: here a crop is the one region of its image.
        owner = torch.arange(len(images), device=images.device)[:, None].float()
        whole = images.new_tensor([[0.0, 0.0, 1.0, 1.0]]).expand(len(images), 4)
        batch = RegionBatch(
            images=images,
            boxes=torch.cat([owner, whole], dim=1),
            regions=crop_box,
            cut_crops=None,
            crop_boxes=whole,
            img_paths=list(img_path),
            img_ids=owner[:, 0].long(),
            epochs=torch.zeros_like(owner[:, 0].long()),
        )
        return self._cache.fetch(batch, lambda part: self.tokens(part.images)[0])

    def _open_cache(self, image_size: int) -> FeatureCache:
        preprocessor = self.data_preprocessor
        version = dict(
            weights=weights_hash(self.encoder),
            dense_mode=self.encoder.dense_mode,
            out_indices=self.encoder.out_indices,
            image_size=image_size,
            mean=getattr(preprocessor, 'mean', torch.zeros(0)).flatten().tolist(),
            std=getattr(preprocessor, 'std', torch.zeros(0)).flatten().tolist(),
        )
        return FeatureCache(str(self.cache_dir), 'cause-tokens', version, per_region=True)

    def forward(
        self,
        inputs: Tensor,
        labels: Tensor | None = None,
        img_path: list[str] | None = None,
        crop_box: Tensor | None = None,
        data_samples: Any = None,
        mode: str = 'tensor',
    ) -> Any:
        """Run one mode of mmengine's model protocol.

        Args:
            inputs: (B, 3, H, W) normalised images.
            labels: (B, H, W) classes; never looked at, the metric reads them from the batch.
            img_path: Files of the images.
            crop_box: (B, 4) xyxy in [0, 1] of the file's image, where the input was cut.
            data_samples: Unused; mmengine's preprocessor adds it.
            mode: ``'loss'``, ``'predict'`` or ``'tensor'``.
        """
        if mode == 'loss':
            losses = self.loss(self.training_tokens(inputs, img_path, crop_box))
            check_finite(losses, img_path or [])
            return losses
        if mode == 'predict':
            return self.predict(inputs)
        if mode != 'tensor':
            raise ValueError(f"mode: expected 'loss', 'predict' or 'tensor', got {mode!r}")
        return self.tokens(inputs)[0]

    @abstractmethod
    def loss(self, tokens: Tensor) -> dict[str, Tensor]:
        """Losses by name of frozen tokens (B, N, D)."""

    def predict(self, images: Tensor) -> list[dict[str, Tensor]]:
        """Only the last stage segments."""
        raise NotImplementedError(
            f'{type(self).__name__} learns what stage 3 needs and segments nothing; evaluate a '
            'CauseClusterProbe'
        )

    def load_parts(self, checkpoint: str | None, parts: dict[str, nn.Module]) -> None:
        """Load parts that an earlier stage trained on the same encoder.

        Args:
            checkpoint: File of the earlier stage.
            parts: Module to fill, by its name in the file.

        Raises:
            ValueError: Without a checkpoint, or if it was trained on another encoder.
        """
        if checkpoint is None:
            raise ValueError(
                f'checkpoint: expected a file of the stage before {type(self).__name__}, got None'
            )
        state = read_checkpoint(checkpoint)
        if has_submodule(state, 'encoder.visual.'):
            self._check_same_encoder(state, checkpoint)
        for name, module in parts.items():
            load_submodule(module, checkpoint, f'{name}.', state)

    def _check_same_encoder(self, state: dict[str, Tensor], checkpoint: str) -> None:
        own = {f'encoder.{k}': v for k, v in self.encoder.state_dict().items()}
        theirs = {k: v for k, v in state.items() if k.startswith('encoder.')}
        same = own.keys() == theirs.keys() and all(
            torch.equal(value.cpu(), theirs[key]) for key, value in own.items()
        )
        if not same:
            raise ValueError(
                f'encoder: expected the encoder that {checkpoint} was trained on, got other '
                'weights; give both stages the same encoder config'
            )
