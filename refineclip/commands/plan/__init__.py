"""``python -m refineclip plan CONFIG``: what a training run costs, before anything starts."""

from .command import main

__all__ = ['main']
