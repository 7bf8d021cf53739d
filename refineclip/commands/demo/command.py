"""``python -m refineclip demo``: the whole method on the microworld, measured, drawn and judged.

Frozen CLIP -> stage 1 (Refiner) -> stage 2 (RLA, SC-RLA, R-SC-RLA, R-SC-V, all from the same start)
by the configs of ``configs/microworld`` through mmengine's Runner; then every row is measured on
images that no stage has seen. The microworld is drawn: its numbers say nothing about real images.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..help_text import command_parser
from .claims import FROZEN, REFINER, RLA

if TYPE_CHECKING:
    from ..steps import Step
    from .measures import Setting

MARKER = '.refineclip-demo'
CONTEXTS = 'refining without training'
# Seconds on one core of a small machine, for the time to go only.
WRITE_SECONDS, MEASURE_SECONDS, CONTEXT_SECONDS = 5.0, 45.0, 120.0
TRAIN_SECONDS = {'refiner': 30.0, 'rla': 45.0, 'rla-grid6': 45.0}
STAGE_2_SECONDS = 60.0


def parse_args(argv: Sequence[str] | None) -> argparse.Namespace:
    """Parse the command line."""
    parser = command_parser(
        'demo',
        'Refine the tiny CLIP of the microworld, drawn images that say nothing about real ones; '
        'measure every variant, judge the claims, write report.html. Begins anew unless told to '
        'resume.',
        '--quick',
    )
    parser.add_argument('--out', type=Path, default=Path('work_dirs/demo'), metavar='DIR')
    parser.add_argument(
        '--seeds', type=int, nargs='+', default=[0], help='seeds of both stages (default: 0)'
    )
    parser.add_argument(
        '--pretrained', default='shipped', metavar='FILE', help='other weights of the tiny CLIP'
    )
    parser.add_argument(
        '--jobs',
        type=int,
        default=min(2, os.cpu_count() or 1),
        help='processes, one thread each (default: 2)',
    )
    parser.add_argument(
        '--quick', action='store_true', help='a few images and steps: shows that it runs, no more'
    )
    parser.add_argument(
        '--resume', action='store_true', help='go on with the stopped demo in --out'
    )
    args = parser.parse_args(argv)
    if args.jobs < 1:
        parser.error(f'--jobs: expected 1 or more, got {args.jobs}')
    if len(set(args.seeds)) < len(args.seeds) or min(args.seeds) < 0:
        parser.error(f'--seeds: expected different numbers >= 0, got {args.seeds}')
    return args


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo.

    Returns:
        0; 2 with a message when something that it needs is not there; 130 after Ctrl-C.
    """
    args = parse_args(argv)
    try:
        return run(args)
    except (OSError, ModuleNotFoundError, ValueError) as error:
        sys.stderr.write(f'demo: {error}\n')
        return 2
    except KeyboardInterrupt:
        sys.stderr.write('demo: interrupted; the same command with --resume goes on\n')
        return 130


def run(args: argparse.Namespace) -> int:
    """Train, measure, draw and report."""
    from rich.console import Console

    from ..steps import run_steps
    from .downstream import downstream_scores
    from .report import claims_text, downstream_table, results_table, write_results

    started = time.monotonic()
    console = Console(file=sys.stdout)
    (reopen if args.resume else clear)(args)
    steps, specs = plan(args)
    console.print(
        f'The microworld is drawn: what follows says nothing about real images.\n'
        f'{len(steps)} steps in {args.jobs} processes, seeds {args.seeds}, into {args.out}',
        highlight=False,
    )
    found = run_steps(steps, args.jobs, console, args.out / 'steps')
    rows = {
        row: [found[f'measure {row}{suffix}'] for suffix in suffixes]
        for row, suffixes in specs.items()
    }
    curve, contexts = found[CONTEXTS]
    downstream = None if left_out(args) else downstream_scores(args, found)
    console.print('  drawing the report', highlight=False)
    report, judgements = write_results(args, setting_of(args), rows, curve, contexts, downstream)
    sys.stdout.write('\n' + results_table(rows) + '\n')
    sys.stdout.write(
        f'{left_out(args)}\n\n' if downstream is None else downstream_table(downstream)
    )
    sys.stdout.write(claims_text(judgements, args))
    sys.stdout.write(
        f'\nreport: {report}\ndemo: done in {(time.monotonic() - started) / 60:.1f} min\n'
    )
    return 0


def clear(args: argparse.Namespace) -> None:
    """Empty the folder that an earlier run filled, and note what this run is.

    Raises:
        ValueError: If the folder holds something else.
    """
    out = args.out
    if out.exists() and (not out.is_dir() or any(out.iterdir())) and not (out / MARKER).is_file():
        raise ValueError(
            f'--out: expected a new folder or one that an earlier demo filled, got {out}, which '
            'holds something else; name another folder'
        )
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    (out / MARKER).write_text(json.dumps(options_of(args)))


def reopen(args: argparse.Namespace) -> None:
    """Check that the folder holds a demo with the same options.

    Raises:
        FileNotFoundError: If there is no demo.
        ValueError: If its options differ.
    """
    marker = args.out / MARKER
    if not marker.is_file():
        raise FileNotFoundError(f'--resume: expected a stopped demo in {args.out}, found none')
    options = json.loads(marker.read_text() or '{}')
    if options != options_of(args):
        raise ValueError(
            f'--resume: expected the options of the stopped demo, {options}, got '
            f'{options_of(args)}; give the same, or begin anew without --resume'
        )


def options_of(args: argparse.Namespace) -> dict[str, Any]:
    """What decides the results."""
    return {'seeds': args.seeds, 'pretrained': str(args.pretrained), 'quick': args.quick}


def left_out(args: argparse.Namespace) -> str:
    """Why no detector and segmentor is trained; empty if they are."""
    from .downstream import missing

    if len(args.seeds) == 1:
        return 'Detector and segmentors: in the long form only (several seeds).'
    if lacking := missing():
        return (
            f'Detector and segmentors: left out, {", ".join(lacking)} not installed; '
            'python -m refineclip doctor says what to do.'
        )
    return ''


def setting_of(args: argparse.Namespace) -> Setting:
    """What all rows share."""
    from .measures import NUM_STARTS, Setting

    return Setting(args.out / 'data', args.pretrained, 1 if args.quick else NUM_STARTS)


def plan(args: argparse.Namespace) -> tuple[list[Step], dict[str, list[str]]]:
    """List all steps.

    Returns:
        The steps, and for each row of the table the endings of its measuring steps' names.
    """
    from refineclip.datasets.microworld import write_split

    from ..microworld import SPLITS
    from ..steps import Step
    from .downstream import downstream_steps
    from .measures import TILES, build_row, context_scores, measure_row
    from .runs import (
        BLENDS,
        EXTRA,
        LONG_ONLY,
        REFINED,
        RUNS,
        blend_name,
        run_checkpoint,
        run_folder,
        run_options,
    )
    from .training import train

    setting = setting_of(args)
    frozen = build_row(setting, args.pretrained)  # what cannot be built is said before long work
    sizes = {'train': 8, 'val': 8} if args.quick else SPLITS
    steps = [
        Step(f'draw {split}', write_split, (setting.root, split, count), (), WRITE_SECONDS)
        for split, count in sizes.items()
    ]
    fixed = {
        'mean colour': 'colour',
        'random weights': 'random',
        FROZEN: args.pretrained,
        f'{FROZEN}, block {frozen.visual.num_blocks - 1} of {frozen.visual.num_blocks}': (
            f'{args.pretrained}@{frozen.visual.num_blocks - 2}'
        ),
        f'{FROZEN}, in tiles': TILES,
    }
    measured = [
        Step(f'measure {row}', measure_row, (setting, spec), ('draw val',), MEASURE_SECONDS)
        for row, spec in fixed.items()
    ]
    specs = {row: [''] for row in fixed}
    for row, method in RUNS.items():
        if (args.quick and row in EXTRA) or (len(args.seeds) == 1 and row in LONG_ONLY):
            continue
        suffixes = [f', seed {seed}' for seed in args.seeds]
        for seed, suffix in zip(args.seeds, suffixes, strict=True):
            needs = ('draw train', *([f'train {REFINER}{suffix}'] if method in REFINED else []))
            folder, options = run_folder(args, method, seed), run_options(args, method, seed)
            hooks = _strip(args) if method == 'refiner' and seed == args.seeds[0] else []
            seconds = TRAIN_SECONDS.get(method, STAGE_2_SECONDS)
            name = f'train {row}{suffix}'
            steps.append(Step(name, train, (method, options, folder, hooks), needs, seconds))
            path, after = str(run_checkpoint(args, method, seed)), (name, 'draw val')
            wanted: dict[str, tuple[Any, ...]] = {row: (setting, path)}
            if row == RLA:
                wanted |= {blend_name(alpha): (setting, path, alpha) for alpha in BLENDS}
            for one, arguments in wanted.items():
                specs[one] = suffixes
                name = f'measure {one}{suffix}'
                measured.append(Step(name, measure_row, arguments, after, MEASURE_SECONDS))
    steps.append(
        Step(CONTEXTS, context_scores, (setting, *_contexts(args)), ('draw val',), CONTEXT_SECONDS)
    )
    downstream = [] if left_out(args) else downstream_steps(args)
    return steps + measured + downstream, specs


def _strip(args: argparse.Namespace) -> list[dict[str, Any]]:
    """The hook that draws how the Refiner learns, on images it does not learn from."""
    images = str(args.out / 'data' / 'val')
    interval = 1 if args.quick else 50
    return [dict(type='FeatureStripHook', images=images, interval=interval, num_images=3)]


def _contexts(args: argparse.Namespace) -> tuple[int, tuple[int, ...], int, tuple[str, ...]]:
    """Images, numbers of contexts, draws and choices of refining without training."""
    choices = ('random', 'grey')
    if args.quick:
        return 6, (1, 2), 2, choices
    if len(args.seeds) == 1:
        return 64, (1, 4, 16), 3, choices
    return 64, (1, 2, 4, 8, 16), 3, (*choices, 'most similar', 'least similar')
