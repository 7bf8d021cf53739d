"""Single pass: a sliding-window teacher of the same tower, distilled into one pass at any size."""

from .single_pass import SinglePass
from .sliding_window import sliding_window_map, window_starts

__all__ = ['SinglePass', 'sliding_window_map', 'window_starts']
