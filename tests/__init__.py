"""A package by name: mim and model-index install a ``tests`` of their own."""

# Processes that a test starts import its module, and this before it: mmdet and mmseg come later.
import refineclip.mmcv_ops  # noqa: F401
