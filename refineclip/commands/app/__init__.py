"""``python -m refineclip app``: a page to look at dense maps of several encoders at one click."""

from .command import main

__all__ = ['main']
