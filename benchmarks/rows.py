"""All rows, in the order of the table."""

# ruff: noqa: I001  (imported in the order of the table)
from . import loader, stage2_step, stage1_trunk, scd_memory, crop_cache, attention, encoder_options
from . import batching, evaluators, segmentation, detection
from .registry import BENCHMARKS

__all__ = [
    'BENCHMARKS',
    'attention',
    'batching',
    'crop_cache',
    'detection',
    'encoder_options',
    'evaluators',
    'loader',
    'scd_memory',
    'segmentation',
    'stage1_trunk',
    'stage2_step',
]
