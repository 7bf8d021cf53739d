"""Torchvision's operators in the place of mmcv's compiled ones, where mmcv has none.

Importing this registers them; it comes before the first import of mmdet or mmseg. Where mmcv is
compiled, or is not installed, it does nothing.
"""

from .registration import has_compiled_ops, register, stands_in

__all__ = ['has_compiled_ops', 'register', 'stands_in']

register()
