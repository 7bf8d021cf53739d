"""Columns of text for help and tables, as wide as what they hold."""

from __future__ import annotations

from collections.abc import Sequence


def align(rows: Sequence[Sequence[str]], indent: str = '') -> str:
    """Lay out rows of equal length: each column but the last as wide as its longest cell."""
    widths = [max(len(row[i]) for row in rows) + 2 for i in range(len(rows[0]) - 1)]
    lines = []
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row[:-1], widths, strict=True)]
        lines.append((indent + ''.join(cells) + row[-1]).rstrip())
    return '\n'.join(lines)
