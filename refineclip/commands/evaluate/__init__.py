"""``python -m refineclip evaluate KIND``: one module per kind, named like it."""

from .command import main

__all__ = ['main']
