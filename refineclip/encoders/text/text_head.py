"""A linear map into a text space, for vision towers that were never trained with text."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import save_file
from torch import Tensor, nn

from ..weights.checkpoint_file import read_content
from ..weights.whole_files import write_whole

_KEYS = ('feature_mean', 'feature_std', 'weight', 'text_mean')


class TextHead(nn.Module):
    """Ridge regression from standardised image features to centred text embeddings.

    Not part of the paper, which has a CLIP: it lets a vision-only tower classify regions by the
    text embeddings of their class names, so that region accuracy can be measured for it as well.
    All four tensors are buffers; nothing here is trained by gradient.

    Args:
        feature_mean: (D,) mean of the features that the head was fitted on.
        feature_std: (D,) their standard deviation, positive.
        weight: (T, D) map from standardised features to centred text.
        text_mean: (T,) mean of the class text embeddings.

    Raises:
        ValueError: If the shapes do not fit together.
    """

    feature_mean: Tensor
    feature_std: Tensor
    weight: Tensor
    text_mean: Tensor

    def __init__(
        self, feature_mean: Tensor, feature_std: Tensor, weight: Tensor, text_mean: Tensor
    ) -> None:
        super().__init__()
        text_dims, dims = weight.shape
        shapes = (feature_mean.shape, feature_std.shape, text_mean.shape)
        if shapes != ((dims,), (dims,), (text_dims,)):
            raise ValueError(
                f'expected feature_mean and feature_std ({dims},) and text_mean ({text_dims},) for '
                f'a weight of shape {tuple(weight.shape)}, got {[tuple(s) for s in shapes]}'
            )
        self.register_buffer('feature_mean', feature_mean.float())
        self.register_buffer('feature_std', feature_std.float())
        self.register_buffer('weight', weight.float())
        self.register_buffer('text_mean', text_mean.float())

    @classmethod
    def fit(
        cls,
        features: Tensor,
        targets: Tensor,
        ridge: float = 100.0,
        text_mean: Tensor | None = None,
    ) -> TextHead:
        """Fit the map in closed form.

        Args:
            features: (M, D) image features.
            targets: (M, T) text embedding of each feature's class.
            ridge: Weight of the squared norm for features of unit variance; the default is the
                value of the pilot on a ViT-S/14 and about 700 crops.
            text_mean: (T,) what is subtracted from the targets, best the mean over the whole
                vocabulary; the mean of ``targets`` if None.

        Raises:
            ValueError: If there are not as many targets as features, or fewer than two.
        """
        if features.ndim != 2 or targets.ndim != 2 or len(features) != len(targets):
            raise ValueError(
                'expected features (M, D) and targets (M, T), got '
                f'{tuple(features.shape)} and {tuple(targets.shape)}'
            )
        if len(features) < 2:
            raise ValueError(f'expected at least two features to fit on, got {len(features)}')
        x, y = features.double(), targets.double()
        center = y.mean(0) if text_mean is None else text_mean.double()
        mean, std = x.mean(0), x.std(0).clamp_min(1e-6)
        x = (x - mean) / std
        gram = x.T @ x + ridge * torch.eye(x.shape[1], dtype=x.dtype, device=x.device)
        weight = torch.linalg.solve(gram, x.T @ (y - center)).T
        return cls(mean, std, weight, center)

    def standardize(self, features: Tensor) -> Tensor:
        """Bring features (*, D) to zero mean and unit variance of the fitting set."""
        return (features - self.feature_mean) / self.feature_std

    def forward(self, features: Tensor) -> Tensor:
        """Map features (*, D) to centred text space, (*, T); not normalised."""
        return F.linear(self.standardize(features), self.weight)

    def classify(self, features: Tensor, text_embeddings: Tensor) -> Tensor:
        """Compare features with class names.

        Args:
            features: (*, D) image or region features.
            text_embeddings: (C, T) embeddings of the class names, as the library gives them.

        Returns:
            (*, C) cosines in [-1, 1] between the mapped features and the centred embeddings.
        """
        classes = F.normalize(text_embeddings.to(self.weight) - self.text_mean, dim=-1)
        return F.normalize(self(features), dim=-1) @ classes.T

    def save(self, path: str | Path) -> None:
        """Write the four tensors to a safetensors file."""
        tensors = {key: getattr(self, key).contiguous().cpu() for key in _KEYS}
        write_whole(path, lambda temporary: save_file(tensors, temporary))

    @classmethod
    def load(cls, path: str | Path) -> TextHead:
        """Read a head from a safetensors file.

        Raises:
            FileNotFoundError: If there is no such file.
            ValueError: If the file holds other tensors.
        """
        if not Path(path).is_file():
            raise FileNotFoundError(
                f'expected a text head at {path}, got no file; make one with tools/fit_text_head.py'
            )
        content = read_content(path)
        if sorted(content) != sorted(_KEYS):
            raise ValueError(
                f'expected the tensors {sorted(_KEYS)}, got {sorted(content)} in {path}; make a '
                'text head with tools/fit_text_head.py'
            )
        return cls(**content)
