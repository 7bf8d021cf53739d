"""How damage grows with alignment on real photos, and what SCD keeps: all measures over steps.

    python benchmarks/real_pilot/length.py --data DATA --seeds 0 1 2

Trains RLA, SC-RLA and R-SC-RLA of configs/pilot with a stretched schedule, measures the student at
saved epochs on the validation photos and blends of the last one with the original, which cost
nothing, and writes length.json, length.md and two figures. Stopped, the same command goes on.
--smoke runs every step on a few photos; its numbers mean nothing.
"""

from __future__ import annotations

import argparse
import json
import sys
from functools import lru_cache
from pathlib import Path
from typing import Any

import bars
import length_figures
import length_tables
import numpy as np
import report
import torch
from measures import PilotEvaluation, Scores
from rich.console import Console
from run import Pilot, make_preprocessor, need_data

from refineclip.commands.steps import Step, run_steps
from refineclip.distill.hooks.weight_ensemble_hook import blend_state
from refineclip.encoders.text.text_head import TextHead
from refineclip.encoders.weights.loading import load_submodule

RUNS = (bars.RLA, bars.SC_RLA, bars.R_SC_RLA)
BLENDS = (0.25, 0.5, 0.7, 0.85)  # shares of the student; .7 is the hook's default


def pilot_of(args: argparse.Namespace) -> Pilot:
    """The pilot in its folder, with its list of photos."""
    pilot = Pilot(args)
    pilot.write_image_list()
    return pilot


def prepare(args: argparse.Namespace) -> None:
    """Fit the text heads."""
    pilot_of(args).fit_heads()


def train(args: argparse.Namespace, run: str, seed: int) -> None:
    """Train a run, and before it what it needs."""
    pilot_of(args).checkpoint(run, seed)


@lru_cache(maxsize=1)
def _evaluation(coco: Path, text_file: Path, smoke: bool) -> PilotEvaluation:
    text = torch.from_numpy(np.load(text_file)).float()
    return PilotEvaluation(coco, text, make_preprocessor(), photos=slice(12 if smoke else None))


def measure(
    args: argparse.Namespace, run: str | None, seed: int, epoch: int, alpha: float = 1.0
) -> Scores:
    """Measure a run after an epoch, blended with the original; the frozen map without a run."""
    pilot = pilot_of(args)
    model = pilot.encoder(run if run == bars.REFINER else None, seed)
    if run in RUNS:
        original = {name: value.clone() for name, value in model.state_dict().items()}
        file = pilot.checkpoint(run, seed).with_name(f'epoch_{epoch}.pth')
        load_submodule(model, file, 'student.')
        if alpha < 1:
            model.load_state_dict(blend_state(model.state_dict(), original, alpha))
    evaluation = _evaluation(pilot.coco, pilot.text_file, pilot.smoke)
    maps = evaluation.maps(model)
    head = TextHead.load(pilot.cls_head)
    return evaluation.spatial_scores(maps) | evaluation.box_scores(maps, head)


def seeds_of(args: argparse.Namespace) -> dict[str, list[int]]:
    """Run -> its seeds."""
    return {run: args.sc_rla_seeds if run == bars.SC_RLA else args.seeds for run in RUNS}


def plan(args: argparse.Namespace, epochs: list[int]) -> list[Step]:
    """All steps; names of measures are read by :mod:`length_tables`."""
    prepared = Step('prepare', prepare, (args,), (), 300.0)
    frozen = Step(length_tables.FROZEN, measure, (args, None, 0, 0), (prepared.name,), 30.0)
    steps = [prepared, frozen]
    for seed in args.seeds:
        refiner = Step(
            f'train {bars.REFINER}, seed {seed}',
            train,
            (args, bars.REFINER, seed),
            (prepared.name,),
            250.0,
        )
        name = length_tables.row_name(bars.REFINER, seed, 0)
        measured = Step(name, measure, (args, bars.REFINER, seed, 0), (refiner.name,), 30.0)
        steps += [refiner, measured]
        for run in RUNS:
            if seed not in seeds_of(args)[run]:
                continue
            train_name = f'train {run}, seed {seed}'
            needs, seconds = (refiner.name,), 70.0 * args.epochs
            steps.append(Step(train_name, train, (args, run, seed), needs, seconds))
            wanted = [(epoch, 1.0) for epoch in epochs]
            if run == bars.RLA:
                wanted += [(epochs[-1], alpha) for alpha in BLENDS]
            for epoch, alpha in wanted:
                name = length_tables.row_name(run, seed, epoch * Pilot.epoch_steps, alpha)
                arguments = (args, run, seed, epoch, alpha)
                steps.append(Step(name, measure, arguments, (train_name,), 30.0))
    return steps


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--data', type=Path, required=True, help='folder with coco/ and weights/')
    parser.add_argument('--out', type=Path, default=Path('work_dirs/real_pilot'))
    parser.add_argument('--seeds', type=int, nargs='+', default=[0, 1, 2])
    parser.add_argument(
        '--sc-rla-seeds', type=int, nargs='*', metavar='SEED', help='fewer seeds for SC-RLA'
    )
    parser.add_argument('--epochs', type=int, default=9, help='16 steps each')
    parser.add_argument('--every', type=int, default=3, help='epochs between two measures')
    parser.add_argument('--jobs', type=int, default=1, help='processes of one thread each')
    parser.add_argument('--smoke', action='store_true', help='a few photos, two epochs')
    parser.set_defaults(threads=1, refiner_regions=4, plain_scd=False)
    args = parser.parse_args(argv)
    need_data(parser, args.data)
    if args.sc_rla_seeds is None:
        args.sc_rla_seeds = args.seeds
    if not set(args.sc_rla_seeds) <= set(args.seeds):
        parser.error(f'--sc-rla-seeds: expected some of {args.seeds}, got {args.sc_rla_seeds}')
    if args.epochs < 1 or args.every < 1:
        parser.error(f'expected at least one epoch, got {args.epochs} and every {args.every}')
    return args


def main() -> int:
    """Train and measure what is not done, and write tables and figures."""
    args = parse_args()
    torch.set_num_threads(1)
    last = 2 if args.smoke else args.epochs
    epochs = list(range(last, 0, -args.every))[::-1]
    store = args.out / 'length' / ('smoke' if args.smoke else f'{args.epochs}-epochs')
    found: dict[str, Any] = run_steps(plan(args, epochs), args.jobs, Console(), store)
    results = length_tables.collect(
        found, seeds_of(args), [epoch * Pilot.epoch_steps for epoch in epochs], BLENDS
    )
    results['environment'] = report.environment(1)
    (args.out / 'length.json').write_text(json.dumps(results, indent=1) + '\n')
    (args.out / 'length.md').write_text(length_tables.markdown(results))
    length_figures.write(results, args.out)
    print(length_tables.verdict_table(results))
    return 0


if __name__ == '__main__':
    sys.exit(main())
