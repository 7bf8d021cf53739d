"""All rows, in the order of the table."""

# ruff: noqa: I001  (imported in the order of the table)
from . import loader, stage2_step, stage1_trunk, scd_memory, crop_cache, attention, encoder_options
from . import batching, evaluators
from .registry import BENCHMARKS

__all__ = [
    'BENCHMARKS',
    'attention',
    'batching',
    'crop_cache',
    'encoder_options',
    'evaluators',
    'loader',
    'scd_memory',
    'stage1_trunk',
    'stage2_step',
]
