"""Benchmarks by name: one row of the table each."""

from __future__ import annotations

from collections.abc import Callable

from .harness import Comparison

Builder = Callable[[bool], Comparison]

BENCHMARKS: dict[str, Builder] = {}


def benchmark(name: str) -> Callable[[Builder], Builder]:
    """Register a function ``(quick) -> Comparison`` as a row; ``quick`` asks for toy sizes."""

    def register(builder: Builder) -> Builder:
        assert name not in BENCHMARKS, name
        BENCHMARKS[name] = builder
        return builder

    return register
