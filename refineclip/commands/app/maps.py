"""Dense maps of rows, kept per image, encoder, dense mode and block within a bound of bytes."""

from __future__ import annotations

import copy
import time
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from refineclip.encoders.refiner_clip import RefinerCLIP
from refineclip.encoders.towers.dense_modes import check_dense_mode
from refineclip.evaluation.encoders import TappedEncoder
from refineclip.visualization.pictures import encode_pictures

from .pictures import Shown

MAX_CACHE_BYTES = 512 * 2**20


@dataclass(frozen=True)
class DenseMap:
    """A map (D, h, w) on the CPU, and the milliseconds that it took."""

    features: Tensor
    milliseconds: float


class DenseMaps:
    """Encodes each image once per encoder and setting; the maps used longest ago make room.

    Args:
        encoders: Row -> encoder of :func:`~refineclip.evaluation.encoders.load_encoders`.
        device: Where they are.
        max_bytes: Of all maps together.
    """

    def __init__(
        self, encoders: Mapping[str, Any], device: str = 'cpu', max_bytes: int = MAX_CACHE_BYTES
    ) -> None:
        self.encoders, self.device, self.max_bytes = encoders, device, max_bytes
        self.kept: OrderedDict[tuple[str, str, str, int | None], DenseMap] = OrderedDict()

    def of(self, row: str, shown: Shown, mode: str, block: int | None) -> DenseMap:
        """Map of an image.

        Args:
            row: Name of the encoder.
            shown: The image.
            mode: What the last block does.
            block: Take the map after this block (from 0) instead; None takes the last block's.

        Raises:
            ValueError: If the encoder has no such mode or block, or its map is not finite.
        """
        key = (shown.key, row, mode, block)
        if key in self.kept:
            self.kept.move_to_end(key)
            return self.kept[key]
        encoder = seen_by(self.encoders[row], mode, block)
        started = time.perf_counter()
        [features] = encode_pictures({row: encoder}, [shown.picture], self.device, [shown.title])[
            row
        ]
        found = DenseMap(features, 1000 * (time.perf_counter() - started))
        self.kept[key] = found
        while len(self.kept) > 1 and self.num_bytes > self.max_bytes:
            self.kept.popitem(last=False)
        return found

    @property
    def num_bytes(self) -> int:
        """Bytes of all maps that are kept."""
        return sum(one.features.nbytes for one in self.kept.values())


def seen_by(encoder: Any, mode: str, block: int | None) -> Any:
    """The same weights with another dense mode, or tapped at a block.

    Mean colours have neither, and a row that was tapped on the command line keeps its block.

    Raises:
        ValueError: If the tower has no such mode or block, or a Refiner stands in its place.
    """
    if not isinstance(encoder, RefinerCLIP):
        return encoder
    if block is not None:
        if encoder.refiner is not None and block >= encoder.trunk_depth:
            raise ValueError(
                f'block {block} is one of those that the Refiner replaces (from '
                f'{encoder.trunk_depth} on); choose an earlier one or the last'
            )
        return TappedEncoder(encoder.visual, block)
    check_dense_mode(mode, encoder.visual.num_class_tokens)
    other = copy.copy(encoder)  # shares all weights
    other.dense_mode = mode
    return other
