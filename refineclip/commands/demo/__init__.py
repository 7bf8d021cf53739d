"""``python -m refineclip demo``: the whole method on the microworld, with judged claims."""

from .command import main

__all__ = ['main']
