"""Rows of a table: encoders by name, reference encoders, and one trunk for rows that share it."""

from .references import ColourEncoder, TappedEncoder
from .rows import (
    COLOUR,
    RANDOM,
    EncoderLoader,
    count_refiner_blocks,
    is_own_checkpoint,
    load_encoders,
    split_tap,
)
from .shared_trunk import DenseEncoder, SharedTrunk
from .shift_averaging import ShiftAveraging

__all__ = [
    'COLOUR',
    'RANDOM',
    'ColourEncoder',
    'DenseEncoder',
    'EncoderLoader',
    'SharedTrunk',
    'ShiftAveraging',
    'TappedEncoder',
    'count_refiner_blocks',
    'is_own_checkpoint',
    'load_encoders',
    'split_tap',
]
