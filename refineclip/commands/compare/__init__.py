"""``python -m refineclip compare``: every way of refining CLIP on the same data, in one table."""

from .command import main

__all__ = ['main']
