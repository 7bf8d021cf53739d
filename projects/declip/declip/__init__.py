"""DeCLIP on any encoder of this package; importing it registers its model."""

from .declip import DeCLIP

__all__ = ['DeCLIP']
