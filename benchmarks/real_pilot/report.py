"""Turn scores into results.json and the tables of docs/real_pilot.md."""

from __future__ import annotations

import platform
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import bars
from measures import REGIONS, SPATIAL, Scores

from refineclip.evaluation import paired_bootstrap

PAIRS = (
    (bars.REFINER, bars.CONTROL),
    (bars.REFINER, bars.LAYER_10),
    (bars.R_SC_V, bars.REFINER),
    (bars.R_SC_V, bars.LAYER_10),
    (bars.SC_RLA, bars.RLA),
    (bars.R_SC_RLA, bars.RLA),
    (bars.R_SC_RLA, bars.SC_RLA),
    (bars.R_SC_RLA, bars.LAYER_10),
)
CROP_ROWS = ('crop, embedding', bars.CROP_MEAN, bars.ROI_MEAN, bars.ROI_CLS)


def collect(
    fixed: dict[str, Scores], trained: dict[str, list[Scores]], seeds: Sequence[int]
) -> dict[str, Any]:
    """Compute values, paired differences and verdicts as JSON-like data."""
    count = len(seeds)
    by_seed = {run: [scores] * count for run, scores in fixed.items()} | trained
    values = {
        run: [{m: s.value for m, s in scores.items()} for scores in of_seeds]
        for run, of_seeds in (trained | {r: [s] for r, s in fixed.items()}).items()
    }
    differences = []
    for run, against in [*((run, bars.FROZEN) for run in [bars.LAYER_10, *trained]), *PAIRS]:
        shared = [m for m in by_seed[run][0] if m in by_seed[against][0]]
        for index in range(1 if run in fixed else count):
            a, b = by_seed[run][index], by_seed[against][index]
            compared = {m: vars(paired_bootstrap(a[m], b[m])) for m in shared}
            differences.append(
                {'run': run, 'against': against, 'seed': seeds[index], 'measures': compared}
            )
    return {
        'seeds': list(seeds),
        'values': values,
        'differences': differences,
        'bars': [verdict for bar in bars.BARS for verdict in _judge(bar, by_seed, fixed)],
    }


def _judge(
    bar: bars.Bar, by_seed: dict[str, list[Scores]], fixed: dict[str, Scores]
) -> list[dict[str, Any]]:
    of_seeds = by_seed[bar.run][:1] if bar.run in fixed else by_seed[bar.run]
    values: dict[str, list[float]] = {}
    for measure in (*bar.at_least, *bar.at_most):
        values[measure] = [
            scores[measure].value
            - (by_seed[bar.against][index][measure].value if bar.against else 0.0)
            for index, scores in enumerate(of_seeds)
        ]
    return [
        {
            'name': bar.name,
            'run': bar.run,
            'against': bar.against,
            'measure': verdict.measure,
            'values': list(verdict.values),
            'limit': verdict.limit,
            'upper': verdict.upper,
            'each_seed': bar.each_seed,
            'seedless': bar.run in fixed,
            'enforced': bar.enforced,
            'passed': verdict.passed,
        }
        for verdict in bars.judge(bar, values)
    ]


def environment(threads: int) -> dict[str, str]:
    """Describe the machine and the libraries."""
    cpu_info = Path('/proc/cpuinfo')
    lines = cpu_info.read_text().splitlines() if cpu_info.is_file() else []
    models = [line.partition(':')[2].strip() for line in lines if line.startswith('model name')]
    facts = {'CPU': models[0] if models else platform.processor(), 'threads': str(threads)}
    facts['Python'] = platform.python_version()
    for name in ('torch', 'torchvision', 'timm', 'numpy', 'scikit-learn'):
        facts[name] = version(name)
    for name in ('onedl-mmengine', 'mmengine'):
        try:
            facts[name] = version(name)
        except PackageNotFoundError:
            continue
    return facts


def _row(cells: Sequence[str]) -> str:
    return '| ' + ' | '.join(cells) + ' |'


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of Markdown."""
    return '\n'.join([_row(header), _row(['---'] * len(header)), *(_row(row) for row in rows)])


def bar_table(results: dict[str, Any]) -> str:
    """Make the table of verdicts."""
    rows = []
    for verdict in results['bars']:
        sign = '<=' if verdict['upper'] else '>='
        scope = 'each seed' if verdict['each_seed'] else 'mean'
        outcome = 'holds' if verdict['passed'] else 'FAILS'
        signed = '{:+.3f}' if verdict['against'] else '{:.3f}'
        what = verdict['run'] + (f' - {verdict["against"]}' if verdict['against'] else '')
        rows.append(
            [
                verdict['name'],
                what,
                f'{verdict["measure"]} {sign} {verdict["limit"]:.3f}',
                'no seed' if verdict['seedless'] else scope,
                ', '.join(signed.format(value) for value in verdict['values']),
                outcome if verdict['enforced'] else f'{outcome} (reported only)',
            ]
        )
    return table(['bar', 'what', 'threshold', 'judged', 'measured', 'verdict'], rows)


def value_table(results: dict[str, Any]) -> str:
    """Make the table of absolute values."""
    runs = [run for run in results['values'] if run not in CROP_ROWS]
    measures = (*SPATIAL, *REGIONS[:2])
    rows = []
    for run in sorted(runs, key=lambda run: not run.startswith('frozen')):
        of_seeds = results['values'][run]
        for index, values in enumerate(of_seeds):
            seed = '-' if run.startswith('frozen') else str(results['seeds'][index])
            cells = [f'{values[m]:.4f}' if m in values else '-' for m in measures]
            rows.append([run, seed, *cells])
    return table(['map', 'seed', *measures], rows)


def difference_table(results: dict[str, Any], to_frozen: bool) -> str:
    """Make the table of paired differences, against the frozen map or between runs."""
    measures = (*SPATIAL, *REGIONS[:2])
    rows = []
    for entry in results['differences']:
        if (entry['against'] == bars.FROZEN) != to_frozen:
            continue
        name = entry['run'] if to_frozen else f'{entry["run"]} - {entry["against"]}'
        seed = '-' if entry['run'] == bars.LAYER_10 else str(entry['seed'])
        cells = [
            f'{d["value"]:+.3f}+-{d["se"]:.3f}' if d else '-'
            for d in (entry['measures'].get(m) for m in measures)
        ]
        rows.append([name, seed, *cells])
    return table(['difference', 'seed', *measures], rows)


def crop_table(results: dict[str, Any]) -> str:
    """Make the table of the frozen encoder on close-ups and on the whole photo."""
    measures = ('box', 'box top-5', 'things', 'stuff')
    rows = [[run, *(f'{results["values"][run][0][m]:.3f}' for m in measures)] for run in CROP_ROWS]
    return table(['features, head', *measures], rows)


def markdown(results: dict[str, Any]) -> str:
    """Make the page of docs: notes, command, machine and all tables."""
    facts = '; '.join(f'{key} {value}' for key, value in results['environment'].items())
    cosines = ', '.join(f'{value:.3f}' for value in results['initial_cosine'])
    seconds = [
        [name, f'{value:.0f}']
        for name, value in results['seconds'].items()
        if not name.startswith('measures')
    ]
    sections = [
        '# Real photos, a real pretrained ViT-S/14',
        NOTES,
        f'```\n{results["command"]}\n```\n\n{facts}.',
        f'## Bars\n\n{bar_table(results)}',
        f'Cosine between RoI tokens and crop tokens before stage 1: {cosines} '
        '(training refuses to start below .7).',
        f'## Values\n\n{value_table(results)}',
        f'## Against the frozen last layer\n\n{difference_table(results, True)}',
        f'## Between runs\n\n{difference_table(results, False)}',
        f'## The frozen encoder on close-ups and on the whole photo\n\n{crop_table(results)}',
        f'## Seconds\n\n{table(["step", "seconds"], seconds)}',
    ]
    return '\n\n'.join(sections) + '\n'


NOTES = """\
The two stages on 128 COCO photos without labels (all 100 of the train2017 part, the first 28 of
unlabeled2017), measured on 70 photos of val2017 with panoptic labels. **The encoder is a derivative
of DINOv2 ViT-S/14 that was tuned for saliency**: its last layers are worse than its tenth, so part
of any gain undoes that tuning, and *just tapping layer 10* is the free baseline to hold a number
against. +- is one standard error of the paired difference over resampled photos. Nothing here ranks
methods: 70 photos and 48 to 128 steps are enough for before and after, not for more.

- auc: area under the ROC curve of token-token cosine, same against different segment;
- imk: k-means within each photo, k = number of segments, matched mean IoU;
- gk: k-means over all photos, k = 27 supercategories, matched mean IoU, mean of 5 starts (its
  standard error keeps the clusters fixed);
- knn: 20 nearest tokens of *other* photos over 133 classes;
- ridge: linear probe over 133 classes, 5 folds over photos;
- box, things: top-1 of 527 ground-truth boxes (area >= 1 %) through a text head, a ridge regression
  from crop embeddings to real CLIP text embeddings that is used for testing only."""
