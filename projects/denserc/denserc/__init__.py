"""DenseRC: dense features out of gated value embeddings, held to a vision model's correlations."""

from .denserc import DenseRC
from .gated_values import gated_values, gated_values_residual

__all__ = ['DenseRC', 'gated_values', 'gated_values_residual']
