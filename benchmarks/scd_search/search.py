"""Search the form and the weight of SCD by the rule of docs/search.md.

    python benchmarks/scd_search/search.py --data DATA

Trains and measures every candidate, writes results.json and report.md into --out and prints the
pick. Stopped, the same command goes on. --smoke runs every step on a few images, to see that the
chain works; its numbers mean nothing.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

# The pilot's own files: its trainings, photos and measures are used as they are.
sys.path.append(str(Path(__file__).resolve().parents[1] / 'real_pilot'))

import bars
import drawn
import photos
import tables
import torch
from candidates import CANDIDATES, LONG_CANDIDATES, SEEDS
from rich.console import Console
from run import need_data

from refineclip.commands.steps import Step, run_steps

LONG = 'photos, 144 steps'
WORLDS = {'photos': photos, LONG: photos, 'drawn world': drawn}


def seeds_of(world: str) -> Sequence[int]:
    """Seeds that are run."""
    return SEEDS[:1] if world == LONG else SEEDS


def plan(world: str, chosen: Sequence[str], common: tuple[Any, ...]) -> list[Step]:
    """Steps of one world; ``common`` are the first arguments of all its functions."""
    module = WORLDS[world]
    prepare = Step(f'{world}: prepare', module.prepare, common, (), 60.0)
    frozen = f'{world}: measure {tables.FROZEN}'
    steps = [prepare, Step(frozen, module.measure, (*common, None, 0), (prepare.name,), 30.0)]
    for run in (bars.REFINER, bars.RLA, *chosen):
        for seed in seeds_of(world):
            name, arguments, needs = f'{run}, seed {seed}', (*common, run, seed), [prepare.name]
            if run in CANDIDATES:
                needs.append(f'{world}: train {bars.REFINER}, seed {seed}')
            train = Step(f'{world}: train {name}', module.train, arguments, tuple(needs), 90.0)
            steps.append(train)
            if run != bars.REFINER:
                measure = f'{world}: measure {name}'
                steps.append(Step(measure, module.measure, arguments, (train.name,), 30.0))
    return steps


def rows_of(world: str, chosen: Sequence[str], found: dict[str, Any]) -> tables.Rows:
    """Row -> scores of each seed, out of what the steps returned."""
    rows = {tables.FROZEN: [found[f'{world}: measure {tables.FROZEN}']]}
    for run in (bars.RLA, *chosen):
        rows[run] = [found[f'{world}: measure {run}, seed {seed}'] for seed in seeds_of(world)]
    return rows


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--data', type=Path, required=True, help='as for benchmarks/real_pilot')
    parser.add_argument('--out', type=Path, default=Path('work_dirs/scd_search'))
    parser.add_argument(
        '--worlds', nargs='+', choices=WORLDS, default=list(WORLDS), help='the longer photos decide'
    )
    parser.add_argument(
        '--candidates',
        type=int,
        default=len(CANDIDATES),
        help='the first N only, but for the longer photos',
        metavar='N',
    )
    parser.add_argument('--jobs', type=int, default=1, help='processes of one thread each')
    parser.add_argument('--smoke', action='store_true', help='a few images and steps')
    args = parser.parse_args(argv)
    need_data(parser, args.data)
    return args


def main() -> int:
    """Train and measure what is not done, write the tables, print the pick."""
    args = parse_args()
    torch.set_num_threads(1)
    on_photos = (args.data, args.out / 'photos', args.smoke)
    common = {
        'photos': (*on_photos, photos.SHORT),
        LONG: (*on_photos, photos.LONG),
        'drawn world': (args.out / 'drawn', args.smoke),
    }
    first = list(CANDIDATES)[: args.candidates]
    chosen = {world: LONG_CANDIDATES if world == LONG else first for world in args.worlds}
    steps = [step for world in args.worlds for step in plan(world, chosen[world], common[world])]
    found = run_steps(steps, args.jobs, Console(), args.out / 'steps')
    results = {
        world: tables.collect(rows_of(world, chosen[world], found), WORLDS[world].REGION)
        for world in args.worlds
    }
    (args.out / 'results.json').write_text(json.dumps(results, indent=1) + '\n')
    (args.out / 'report.md').write_text(tables.markdown(results))
    for world, result in results.items():
        print(f'{world}: {result["pick"]}')
    return 0


if __name__ == '__main__':
    sys.exit(main())
