"""Pairs of ways to do the same work, measured side by side: ``python -m benchmarks``.

Side A is the published or plain way, written for the comparison in :mod:`benchmarks.published`;
side B is this package. No product code imports from here.
"""
