"""Segmentation by words without training: a dense map against class texts."""

from .segmentor import TextSegmentor
from .untrained_wrapper import UntrainedModelWrapper

__all__ = ['TextSegmentor', 'UntrainedModelWrapper']
