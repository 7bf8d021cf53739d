"""The drawn world: images from a seed, words of its own CLIP."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional as F

from refineclip.datasets.microworld import require_current, write_split
from refineclip.evaluation.word_segmentation import word_miou

from ...demo.measures import (
    NUM_STARTS,
    Scores,
    Setting,
    evaluation,
    spatial_scores,
    text_scores,
    vocabulary,
)
from ...microworld import SPLITS
from ...steps import Step

if TYPE_CHECKING:
    from ..job import Job

QUICK_IMAGES = 8


class World:
    """The suite ``microworld``; draws its images into the output folder, or finds them.

    Args:
        job: The comparison.
    """

    def __init__(self, job: Job) -> None:
        self.job = job
        self.root = job.out / 'data' if job.data is None else job.data
        self.sizes = dict.fromkeys(SPLITS, QUICK_IMAGES) if job.quick else SPLITS
        self.num_images = self.sizes['train']

    def check(self) -> None:
        """See :meth:`Source.check`."""
        for split in SPLITS if self.job.data is not None else ():
            require_current(self.root, split)

    def files(self) -> dict[str, Path | str]:
        """See :meth:`Source.files`."""
        return {'images': self.root / 'train'}

    def steps(self) -> list[Step]:
        """See :meth:`Source.steps`."""
        if self.job.data is not None:
            return []
        return [
            Step(f'draw {split}', write_split, (self.root, split, count), (), 5.0)
            for split, count in self.sizes.items()
        ]

    def blank_head(self, model: dict[str, Any], folder: Path) -> str:
        """See :meth:`Source.blank_head`."""
        raise ValueError('text_head: expected None, the encoders of this suite have their own text')

    def score(self, encoder: Any) -> Scores:
        """Regions, words alone, spatial measures, and retrieval of whole images."""
        setting = Setting(self.root, num_starts=1 if self.job.quick else NUM_STARTS)
        data = evaluation(setting)
        text = F.normalize(vocabulary(setting, data.classes), dim=1)
        with torch.no_grad():
            maps = data.maps(encoder)
            words = word_miou(data, maps, lambda tokens: F.normalize(tokens, dim=1) @ text.T)
        scores = spatial_scores(data, maps, setting.num_starts)
        return scores | {'words_miou': words} | text_scores(setting, encoder, data)
