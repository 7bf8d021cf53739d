"""A package by name: mim and model-index install a ``tests`` of their own."""
