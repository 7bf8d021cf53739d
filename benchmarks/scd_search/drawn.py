"""The drawn world beside the photos: the demo's stages, measured on images of its split tune."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import bars
from candidates import CANDIDATES

from refineclip.commands.demo import training
from refineclip.commands.demo.measures import Scores, Setting, measure_row
from refineclip.commands.demo.runs import run_folder, run_options
from refineclip.datasets.microworld import write_split

REGION = 'boxes_class_top1'
TUNE = 'tune'
SIZES = {'train': 384, TUNE: 300}
CONFIGS = {bars.REFINER: 'refiner', bars.RLA: 'rla'}


def prepare(out: Path, smoke: bool) -> None:
    """Draw images to learn from and images to choose on."""
    for split, count in SIZES.items():
        write_split(out / 'data', split, 8 if smoke else count)


def _run(out: Path, smoke: bool, run: str, seed: int) -> tuple[str, Path, dict[str, Any]]:
    """Config, folder and options of a run."""
    args = argparse.Namespace(out=out, pretrained='shipped', quick=smoke)
    if run in CONFIGS:
        config = CONFIGS[run]
        return config, run_folder(args, config, seed), run_options(args, config, seed)
    settings = {f'model.scd.{key}': value for key, value in CANDIDATES[run].items()}
    folder = run_folder(args, f'candidate{list(CANDIDATES).index(run)}', seed)
    return 'r-sc-rla', folder, run_options(args, 'r-sc-rla', seed) | settings


def train(out: Path, smoke: bool, run: str, seed: int) -> None:
    """Train one run."""
    config, folder, options = _run(out, smoke, run, seed)
    training.train(config, options, folder)


def measure(out: Path, smoke: bool, run: str | None, seed: int) -> Scores:
    """Measure what a run has trained, the frozen CLIP without a run."""
    spec = 'shipped'
    if run is not None:
        config, folder, options = _run(out, smoke, run, seed)
        spec = str(training.checkpoint(config, folder, options))
    return measure_row(Setting(out / 'data', split=TUNE), spec)
