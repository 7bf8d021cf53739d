"""Dense maps as colours: three principal components, on one basis for all models."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from .panels import panel_grid
from .pictures import Maps, as_map, check_maps, to_picture, tokens_of

SHARED = (
    'Three principal components of L2-normalised tokens as red, green and blue. One basis and one '
    'range for all models: each model is centred on its own mean, then the basis is fitted on the '
    'tokens of all, every model with equal weight. Equal colours mean equal directions.'
)
OWN = (
    'Three principal components of L2-normalised tokens as red, green and blue. Basis and range '
    'are fitted for each model alone: colours of different models do not compare.'
)


@dataclass(frozen=True)
class PcaBasis:
    """Directions that turn tokens into colours.

    Attributes:
        mean: (D,) subtracted first.
        components: (D, 3) unit directions, by falling variance.
        low: (3,) projections that become 0.
        high: (3,) projections that become 1.
    """

    mean: Tensor
    components: Tensor
    low: Tensor
    high: Tensor

    def colours(self, dense: Tensor) -> NDArray[np.float32]:
        """Colours (h, w, 3) in [0, 1] of a map (D, h, w).

        Raises:
            ValueError: If the map has another width than the basis.
        """
        one = as_map(dense)
        if len(one) != len(self.mean):
            raise ValueError(
                f'expected a map of {len(self.mean)} channels as the basis has, got {len(one)}'
            )
        projected = (tokens_of(one) - self.mean) @ self.components
        scaled = ((projected - self.low) / (self.high - self.low).clamp_min(1e-8)).clamp(0, 1)
        return scaled.reshape(*one.shape[1:], 3).numpy()


def _components(parts: Sequence[Tensor]) -> Tensor:
    """Three principal directions (D, 3) of centred tokens, parts (N, D); signs fixed.

    Every part weighs as much: a model whose tokens scatter widely would else decide alone.
    """
    if parts[0].shape[1] < 3:
        raise ValueError(f'expected maps of 3 channels or more, got {parts[0].shape[1]}')
    covariances = [part.double().T @ part.double() for part in parts]
    total = torch.stack([one / one.trace().clamp_min(1e-12) for one in covariances]).sum(0)
    vectors = torch.linalg.eigh(total).eigenvectors[:, -3:].flip(1)
    # A direction and its opposite explain as much; the largest entry decides, so colours repeat.
    largest = vectors.abs().argmax(0, keepdim=True)
    return (vectors * vectors.gather(0, largest).sign()).float()


def _range(projected: Tensor) -> tuple[Tensor, Tensor]:
    """1st and 99th percentile of each of three projections (N, 3)."""
    low, high = np.percentile(projected.numpy(), [1, 99], axis=0)
    return torch.from_numpy(low).float(), torch.from_numpy(high).float()


def fit_pca(maps: Maps, shared: bool = True) -> dict[str, PcaBasis]:
    """Fit what turns the maps of every model into colours.

    Args:
        maps: Model -> maps (D, h, w) of its images.
        shared: One basis and one range for all models, each centred on its own mean, so that a
            mere shift of all tokens is no colour, and of equal weight. False fits every model
            alone; take it for models of little kinship, as a random one.

    Returns:
        Model -> basis.

    Raises:
        ValueError: If models of different widths shall share a basis, or one has fewer than 3
            channels.
    """
    tokens = {name: torch.cat([tokens_of(one, name) for one in own]) for name, own in maps.items()}
    widths = {name: own.shape[1] for name, own in tokens.items()}
    if shared and len(set(widths.values())) > 1:
        raise ValueError(
            f'expected maps of one width for a shared basis, got {widths}; leave a model out or '
            'fit a basis per model'
        )
    means = {name: own.mean(0) for name, own in tokens.items()}
    centred = {name: own - means[name] for name, own in tokens.items()}
    if shared:
        components = _components(list(centred.values()))
        low, high = _range(torch.cat(list(centred.values())) @ components)
        return {name: PcaBasis(mean, components, low, high) for name, mean in means.items()}
    bases = {}
    for name, own in centred.items():
        components = _components([own])
        bases[name] = PcaBasis(means[name], components, *_range(own @ components))
    return bases


def pca_figure(
    images: Sequence[Any],
    maps: Maps,
    shared: bool = True,
    bases: Mapping[str, PcaBasis] | None = None,
    caption: str | None = None,
) -> Figure:
    """Draw PCA maps: one row per image, the image and then one column per model.

    Args:
        images: Whatever :func:`~refineclip.visualization.pictures.to_picture` takes.
        maps: Model -> one map (D, h, w) or (1, D, h, w) per image.
        shared: See :func:`fit_pca`.
        bases: Use these instead of fitting.
        caption: Text under the panels; says how the colours came about if None.

    Returns:
        The figure.

    Raises:
        ValueError: If maps do not fit the images or each other.
    """
    check_maps(maps, len(images))
    pictures = [to_picture(image) for image in images]
    if bases is None:
        bases = fit_pca(maps, shared)
    text = (SHARED if shared else OWN) if caption is None else caption
    aspects = [picture.shape[0] / picture.shape[1] for picture in pictures]
    figure, grid = panel_grid(aspects, ['image', *maps], text)
    for row, (line, picture) in enumerate(zip(grid, pictures, strict=True)):
        line[0].imshow(picture, aspect='auto')
        for axes, (name, own) in zip(line[1:], maps.items(), strict=True):
            axes.imshow(bases[name].colours(own[row]), aspect='auto', interpolation='nearest')
    return figure
