"""Run the blocks that several encoders share once per image."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Protocol

from torch import Tensor

from refineclip.encoders.refiner_clip import RefinerCLIP
from refineclip.encoders.towers.dense_vit import DenseViT

from .references import TappedEncoder

Finish = Callable[[Tensor, tuple[int, int]], Tensor]


class DenseEncoder(Protocol):
    """What is evaluated; :class:`~refineclip.encoders.RefinerCLIP` is one."""

    def dense(self, images: Tensor) -> Tensor:
        """Map normalised images (B, 3, H, W) to (B, D, h, w)."""
        ...

    def image_embedding(self, images: Tensor) -> Tensor:
        """Map normalised images (B, 3, H, W) to (B, D)."""
        ...


class SharedTrunk:
    """Encoders whose ``visual`` is one and the same module run its blocks once.

    A frozen encoder, its Refiner and its tapped blocks differ only in what follows some block. The
    maps equal those of each encoder alone.

    Args:
        encoders: By name. :func:`~refineclip.evaluation.encoders.load_encoders` lets rows of equal
            weights share their module.
    """

    def __init__(self, encoders: Mapping[str, DenseEncoder]) -> None:
        self.encoders = dict(encoders)
        self.groups: dict[int, list[tuple[int, str, Finish]]] = {}
        self.visuals: dict[int, DenseViT] = {}
        self.alone: list[str] = []
        for name, encoder in encoders.items():
            if isinstance(encoder, RefinerCLIP | TappedEncoder):
                key = id(encoder.visual)
                self.visuals[key] = encoder.visual
                depth, finish = _finish(encoder)
                self.groups.setdefault(key, []).append((depth, name, finish))
            else:
                self.alone.append(name)

    def dense(self, images: Tensor) -> dict[str, Tensor]:
        """Dense map (B, D, h, w) of every encoder, by name, in the encoders' order."""
        maps = {name: self.encoders[name].dense(images) for name in self.alone}
        for key, rows in self.groups.items():
            visual, done = self.visuals[key], 0
            tokens, grid = visual.embed(images)
            for depth, name, finish in sorted(rows, key=lambda row: row[0]):
                tokens, done = visual.run(tokens, grid, done, depth), depth
                maps[name] = finish(tokens, grid)
        return {name: maps[name] for name in self.encoders}

    def image_embedding(self, images: Tensor) -> dict[str, Tensor]:
        """Image embedding (B, D) of every encoder, by name; one visual embeds once."""
        found: dict[int, Tensor] = {}
        embeddings = {}
        for name, encoder in self.encoders.items():
            key = id(getattr(encoder, 'visual', encoder))
            if key not in found:
                found[key] = encoder.image_embedding(images)
            embeddings[name] = found[key]
        return embeddings


def _finish(encoder: RefinerCLIP | TappedEncoder) -> tuple[int, Finish]:
    """Return after how many blocks an encoder leaves the trunk, and what it does then."""
    if isinstance(encoder, TappedEncoder):
        return encoder.block + 1, encoder.finish

    def finish(tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        return encoder.embedding_map(encoder.dense_tokens(tokens, grid), grid)

    return encoder.trunk_depth, finish
