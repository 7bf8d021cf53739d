"""Spatial awareness of dense maps without language.

``measures`` and ``suite`` need scikit-learn, so they are imported by their own names only.
"""

from .patch_labels import map_labels, patch_segments

__all__ = ['map_labels', 'patch_segments']
