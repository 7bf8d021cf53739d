"""The photos that decide: students of 96 photos, measured on 50 others of train2017."""

from __future__ import annotations

import argparse
from functools import lru_cache
from pathlib import Path
from typing import Any

import bars
import numpy as np
import torch
from candidates import CANDIDATES
from measures import PilotEvaluation, Scores
from run import STAGE_1, Pilot, make_preprocessor

from refineclip.encoders.text.text_head import TextHead

REGION = 'box'
HELD_OUT = slice(50, None)
SHORT, LONG = 4, 12  # epochs of 48 and of 144 steps


class TunePilot(Pilot):
    """Half of train2017 to learn from, the other half to choose on.

    Args:
        data: Folder with coco/, weights/ and text_embeddings/.
        out: Folder to fill.
        smoke: A few photos, one epoch.
        epochs: Epochs of stage 2, of 12 steps.
    """

    num_train, num_unlabeled, num_labelled = 50, 46, 50
    epoch_steps = 12

    def __init__(self, data: Path, out: Path, smoke: bool, epochs: int) -> None:
        super().__init__(
            argparse.Namespace(
                data=data,
                out=out,
                threads=1,
                smoke=smoke,
                refiner_regions=4,
                plain_scd=False,
                epochs=None if epochs == SHORT else epochs,
            )
        )
        self.write_image_list()

    def checkpoint(self, run: str, seed: int) -> Path:
        """Train a run of the pilot, or R-SC-RLA with the settings of a candidate."""
        if run not in CANDIDATES:
            return super().checkpoint(run, seed)
        number = list(CANDIDATES).index(run)
        return self.train(
            f'{run}, seed {seed}',
            'r-sc-rla',
            self.folder(f'candidate{number}', seed, self.epochs),
            lambda: self.options(run, seed),
            self.epochs,
        )

    def options(self, run: str, seed: int) -> dict[str, Any]:
        """As in the pilot; as many steps, though an epoch has 12 instead of 16."""
        options = super().options(bars.R_SC_RLA if run in CANDIDATES else run, seed)
        options |= {f'model.scd.{key}': value for key, value in CANDIDATES.get(run, {}).items()}
        if not self.smoke and (run in STAGE_1 or self.epochs is None):
            options['train_cfg.max_epochs'] = 10 if run in STAGE_1 else SHORT
        return options


@lru_cache(maxsize=1)
def _evaluation(data: Path, text_file: Path, smoke: bool) -> PilotEvaluation:
    text = torch.from_numpy(np.load(text_file)).float()
    photos = slice(50, 62) if smoke else HELD_OUT
    return PilotEvaluation(
        data / 'coco', text, make_preprocessor(), split='train2017', photos=photos
    )


def prepare(data: Path, out: Path, smoke: bool, epochs: int) -> None:
    """Fit the text heads on the photos that are not measured on."""
    TunePilot(data, out, smoke, epochs).fit_heads()


def train(data: Path, out: Path, smoke: bool, epochs: int, run: str, seed: int) -> None:
    """Train one run."""
    TunePilot(data, out, smoke, epochs).checkpoint(run, seed)


def measure(data: Path, out: Path, smoke: bool, epochs: int, run: str | None, seed: int) -> Scores:
    """Measure what a run has trained, the frozen encoder without a run, on held-out photos."""
    pilot = TunePilot(data, out, smoke, epochs)
    evaluation = _evaluation(data, pilot.text_file, smoke)
    maps = evaluation.maps(pilot.encoder(run, seed))
    head = TextHead.load(pilot.cls_head)
    return evaluation.spatial_scores(maps) | evaluation.box_scores(maps, head)
