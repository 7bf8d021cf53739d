"""Give any CLIP-like ViT its spatial awareness back and plug it into mmdet and mmseg by name."""

__version__ = '0.1.0'
