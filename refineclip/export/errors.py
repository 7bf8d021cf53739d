"""What an export ends with where it must not be kept; needs no library, as ``--help`` must not."""

from __future__ import annotations


class ExportMismatchError(Exception):
    """What was loaded back differs from what was exported, by more than rounding."""
