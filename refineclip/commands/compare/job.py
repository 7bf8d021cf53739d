"""What decides every number of a comparison: suite, data, length."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .suite import Method, Suite, read_suite

if TYPE_CHECKING:
    from .data.sources import Source

QUICK_STEPS = 2


@dataclass(frozen=True)
class Job:
    """One comparison; can be sent to another process.

    Attributes:
        suite_name: Name or file of the suite.
        data: Where its data is; None where the suite makes it.
        out: Where everything goes.
        length: Factor on the suite's passes.
        quick: A few images and steps.
    """

    suite_name: str
    data: Path | None
    out: Path
    length: float = 1.0
    quick: bool = False

    @property
    def suite(self) -> Suite:
        """The suite, read once per process."""
        return _suite(self.suite_name)

    @property
    def source(self) -> Source:
        """The suite's data."""
        from .data.sources import SOURCES

        return SOURCES[self.suite['kind']](self)

    def options(self) -> dict[str, Any]:
        """What must be the same for a comparison to go on."""
        return {
            'suite': self.suite_name,
            'data': None if self.data is None else str(self.data),
            'length': self.length,
            'quick': self.quick,
        }

    def run_folder(self, method: Method, seed: int) -> Path:
        """work_dir of one training run."""
        return self.out / 'runs' / f'{method.folder}_seed{seed}'

    def encoder_file(self, method: Method, seed: int) -> Path:
        """Weights of what a run has trained, with the keys of its encoder."""
        return self.run_folder(method, seed) / 'encoder.pth'


@lru_cache(maxsize=4)
def _suite(name: str) -> Suite:
    return read_suite(name)
