"""``compare.json``, ``compare.md`` and the front of a comparison."""

from __future__ import annotations

import argparse
import math
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from refineclip.evaluation.bootstrap import ImageScores
from refineclip.evaluation.seeds import Interval, compare
from refineclip.visualization import front_figure
from refineclip.visualization.style import save_figure

from ...evaluate.common import environment, write_json
from ..downstream import downstream_table, downstream_values
from ..job import Job
from ..planning import measure_name, per_seed, train_name, trained_methods
from ..suite import Method
from .table import Rows, markdown_table, mean, not_beaten, pareto_front, summary

RULE = (
    'Same images, batch, regions, optimiser and schedule for all, and as many passes of the '
    'student; losses, their weights and the learning rate against that of CLIPSelf are those that '
    'each method publishes. The student itself is measured: blends with the original are rows of '
    'their own. Stage 1 of a Refiner is not a pass of the student; its seconds are listed.'
)


def write_results(
    args: argparse.Namespace,
    job: Job,
    methods: Sequence[Method],
    done: Mapping[str, Any],
    missing: Sequence[str],
) -> str:
    """Write json, table and figure of what is done.

    Args:
        args: Command line.
        job: The comparison.
        methods: Its rows.
        done: What finished steps returned, by name.
        missing: Names of the others.

    Returns:
        The Markdown, and where the files are.
    """
    rows = collect(methods, args.seeds, done)
    away = differences(rows, job.suite['baseline'])
    args.out.mkdir(parents=True, exist_ok=True)
    files = [args.out / 'compare.json', args.out / 'compare.md']
    write_json(files[0], content(args, job, methods, done, missing, rows, away))
    text = markdown(args, job, methods, missing, rows, away)
    text += downstream_table(downstream_values(methods, args.seeds, done))
    files[1].write_text(text)
    if shown := _on_axes(job, rows):
        files.append(save_figure(front(job, shown, away), args.out / 'front.png'))
    return f'\n{text}\nwritten: {", ".join(map(str, files))}\n'


def collect(methods: Sequence[Method], seeds: Sequence[int], done: Mapping[str, Any]) -> Rows:
    """Row -> scores of each seed that is measured."""
    rows: dict[str, list[Mapping[str, ImageScores]]] = {}
    for method in methods:
        names = [measure_name(method, seed) for seed in seeds if per_seed(method)]
        found = [done[n] for n in names or [measure_name(method, seeds[0])] if n in done]
        if found:
            rows[method.name] = [one['scores'] for one in found]
    return rows


def differences(rows: Rows, baseline: str) -> dict[str, dict[str, Interval]]:
    """Difference of every row to the baseline, by measure, where both have it and are whole.

    Rows of other numbers of seeds, in a comparison that was stopped, have none.
    """
    away: dict[str, dict[str, Interval]] = {}
    other = rows.get(baseline, [])
    for row, scores in rows.items():
        fits = len(scores) == len(other) or 1 in (len(scores), len(other))
        if row == baseline or not other or not fits:
            continue
        away[row] = {
            key: compare([one[key] for one in scores], [one[key] for one in other])
            for key in scores[0]
            if all(key in one and _defined(one[key]) for one in (*scores, *other))
        }
    return away


def _defined(scores: ImageScores) -> bool:
    return not math.isnan(scores.value) and scores.num_images > 1


def content(
    args: argparse.Namespace,
    job: Job,
    methods: Sequence[Method],
    done: Mapping[str, Any],
    missing: Sequence[str],
    rows: Rows,
    away: Mapping[str, Mapping[str, Interval]],
) -> dict[str, Any]:
    """Every number and every setting."""
    runs = {
        train_name(method, seed): done[train_name(method, seed)]
        for method in trained_methods(job, methods)
        for seed in args.seeds
        if train_name(method, seed) in done
    }
    return {
        'command': command(args),
        'rule': RULE,
        'suite': {**job.suite.settings, 'length': job.length, 'quick': job.quick},
        'seeds': args.seeds,
        'methods': {method.name: vars(method) for method in methods},
        'values': {
            row: [{key: _number(one.value) for key, one in seed.items()} for seed in scores]
            for row, scores in rows.items()
        },
        'differences': {
            row: {key: vars(interval) for key, interval in own.items()} for row, own in away.items()
        },
        'front': pareto_front(rows, job.suite['axes']),
        'downstream': downstream_values(methods, args.seeds, done),
        'runs': runs,
        'seconds': {name: one['seconds'] for name, one in done.items() if _timed(one)},
        'missing': list(missing),
        'environment': environment(),
    }


def _timed(result: Any) -> bool:
    return isinstance(result, Mapping) and 'seconds' in result


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value


def command(args: argparse.Namespace) -> str:
    """The command line that makes these numbers, without the places of this machine."""
    words = ['python', '-m', 'refineclip', 'compare', '--suite', args.suite]
    words += ['--methods', *args.methods] if args.methods else []
    words += ['--data', 'DATA'] if args.data else []
    words += ['--seeds', *map(str, args.seeds)]
    words += ['--length', f'{args.length:g}'] if args.length != 1 else []
    words += [flag for flag in ('--downstream', '--quick') if getattr(args, flag[2:])]
    return shlex.join(words)


def markdown(
    args: argparse.Namespace,
    job: Job,
    methods: Sequence[Method],
    missing: Sequence[str],
    rows: Rows,
    away: Mapping[str, Mapping[str, Interval]],
) -> str:
    """The page: what was done, the sentence, the table, what each row is."""
    suite = job.suite
    passes = suite['passes'] * job.length
    parts = [
        f'# Comparison: {suite["title"]}',
        f'`{command(args)}`',
        f'{passes:g} passes of the student, seeds {", ".join(map(str, args.seeds))}. {RULE}',
        summary(rows, suite['axes'], suite['columns'], suite.settings.get('ours')),
        markdown_table(rows, away, suite['columns'], suite['axes']),
        f'Mean and standard deviation over seeds; below, the difference to {suite["baseline"]} '
        'with its 95 % interval (paired bootstrap over images, or the t interval over seeds where '
        'it is wider), bold where it leaves 0 out. `*`: no row is better on both axes of the '
        'front.',
        '\n'.join(f'- **{one.name}**: {one.text} ({one.source})' for one in methods),
    ]
    if job.quick:
        parts.insert(1, '**A quick run: none of these numbers means anything.**')
    if missing:
        parts.append(f'Not finished: {", ".join(missing)}.')
    return '\n\n'.join(part for part in parts if part) + '\n'


def _on_axes(job: Job, rows: Rows) -> dict[str, tuple[float, float]]:
    across, upwards = job.suite['axes']
    return {
        row: (mean(scores, across), mean(scores, upwards))
        for row, scores in rows.items()
        if all(across in one and upwards in one for one in scores)
    }


def front(
    job: Job,
    shown: Mapping[str, tuple[float, float]],
    away: Mapping[str, Mapping[str, Interval]],
) -> Any:
    """The figure: region accuracy against spatial quality."""
    axes, columns, baseline = job.suite['axes'], job.suite['columns'], job.suite['baseline']

    def span(row: str, place: int) -> tuple[float, float, float]:
        value, interval = shown[row][place], away.get(row, {}).get(axes[place])
        if interval is None:
            return value, value, value
        return value, value + interval.low - interval.value, value + interval.high - interval.value

    best = sorted(
        (shown[row] for row in not_beaten(shown)), key=lambda point: (point[0], -point[1])
    )
    return front_figure(
        {row: (span(row, 0), span(row, 1)) for row in shown},
        (f'region accuracy ({columns[axes[0]]})', f'spatial quality ({columns[axes[1]]})'),
        f'Up and to the right is better. Bars: 95 % intervals of the difference to {baseline}. '
        'Dotted: rows that none is better than at both.',
        ('front', best),
    )
