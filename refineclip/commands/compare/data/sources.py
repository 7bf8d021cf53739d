"""Where a suite's images, weights and words come from."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from ...demo.measures import Scores
from ...steps import Step
from .photos import Photos
from .world import World

if TYPE_CHECKING:
    from ..job import Job


class Source(Protocol):
    """What a suite needs of its data."""

    num_images: int

    def __init__(self, job: Job) -> None: ...

    def check(self) -> None:
        """Refuse data that is not there.

        Raises:
            FileNotFoundError: Saying what was expected where.
        """
        ...

    def files(self) -> Mapping[str, Path | str]:
        """What takes the place of the placeholders in configs, by role."""
        ...

    def steps(self) -> list[Step]:
        """What must be done before a run can begin."""
        ...

    def blank_head(self, model: dict[str, Any], folder: Path) -> str:
        """Write a text head of the right shape for a model that is only tried; returns the file.

        Raises:
            ValueError: If the suite reads its encoders without one.
        """
        ...

    def score(self, encoder: Any) -> Scores:
        """All measures of an encoder."""
        ...


SOURCES: dict[str, type[Source]] = {'microworld': World, 'photos': Photos}
