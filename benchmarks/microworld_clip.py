"""``python -m benchmarks microworld-clip``: has the microworld's CLIP something to lose?

Conditions on frozen towers alone; differences have a 95 % interval (paired bootstrap over images):

- W1: crops of named kinds are named right four times of five.
- W2: knn, ridge and gk of tokens above their mean colour and above an untrained tower of the same
  shape, gk by .05; auc and imk above the untrained tower.
- W3: boxes, pooled from the dense map, are .2 and more below crops.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from PIL import Image

from refineclip.commands.demo.measures import Scores, Setting, build_row, evaluation, measure_row
from refineclip.datasets.microworld import require_current
from refineclip.evaluation.encoders import COLOUR
from refineclip.evaluation.seeds import Interval, compare

RANDOM = 'random'
COLUMNS = ('crops_things_top1', 'boxes_things_top1', 'auc', 'imk', 'gk', 'knn', 'ridge')
LEAST_CROPS, LEAST_GAP, LEAST_GK = 0.8, 0.2, 0.05
NUM_PICTURES = 4


def conditions(rows: dict[str, Scores], name: str) -> list[tuple[str, bool]]:
    """Every condition as a sentence with numbers, and whether it holds.

    A difference holds if it is as large as asked and its whole interval is above 0.
    """
    own = rows[name]
    crops = own['crops_things_top1'].value
    told = [(f'W1 {name}: crops {crops:.3f}, asked {LEAST_CROPS}', crops >= LEAST_CROPS)]
    asked = {(key, COLOUR): 0.0 for key in ('knn', 'ridge', 'gk')}
    asked |= {(key, RANDOM): 0.0 for key in ('knn', 'ridge', 'auc', 'imk')}
    asked[('gk', RANDOM)] = LEAST_GK
    for (key, other), least in asked.items():
        away = compare([own[key]], [rows[other][key]])
        told.append((f'W2 {name}: {key} over {other} {away}, asked {least}', _holds(away, least)))
    gap = compare([own['crops_things_top1']], [own['boxes_things_top1']])
    told.append((f'W3 {name}: crops over boxes {gap}, asked {LEAST_GAP}', _holds(gap, LEAST_GAP)))
    return told


def _holds(away: Interval, least: float) -> bool:
    return away.low > 0 and away.value >= least


def table(rows: dict[str, Scores]) -> str:
    """One line per row, Markdown."""
    lines = [f'| row | {" | ".join(COLUMNS)} |', '| --- |' + ' ---: |' * len(COLUMNS)]
    for name, scores in rows.items():
        cells = [f'{scores[key].value:.3f}' if key in scores else '-' for key in COLUMNS]
        lines.append(f'| {name} | {" | ".join(cells)} |')
    return '\n'.join(lines)


def picture(setting: Setting, models: dict[str, str], path: Path) -> None:
    """Images, and the first three principal components of each row's map of them (W4)."""
    from refineclip.visualization import pca_figure
    from refineclip.visualization.style import save_figure

    data = evaluation(setting, NUM_PICTURES)
    maps = {name: data.maps(build_row(setting, spec)) for name, spec in models.items()}
    images = [Image.open(data.dataset[i].img_path) for i in range(len(data.dataset))]
    save_figure(pca_figure(images, maps, shared=False), path)


def parse_args(argv: list[str]) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog='python -m benchmarks microworld-clip',
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        'models', nargs='*', default=['shipped=shipped'], metavar='NAME=SPEC', help='towers'
    )
    parser.add_argument('--data', type=Path, default=Path('data/microworld'))
    parser.add_argument('--split', default='val', help='default: val')
    parser.add_argument('--picture', type=Path, metavar='PNG', help='also draw maps (W4)')
    args = parser.parse_args(argv)
    if not all('=' in word for word in args.models):
        parser.error(f'models: expected NAME=SPEC, got {args.models}')
    return args


def main(argv: list[str]) -> int:
    """Measure, print the table and the conditions; 1 if one of them fails."""
    args = parse_args(argv)
    require_current(args.data, args.split)
    models = dict(word.split('=', 1) for word in args.models)
    # Each CLIP is read by its own text tower; the others have none or need one.
    own = {name: Setting(args.data, spec, split=args.split) for name, spec in models.items()}
    first = next(iter(own.values()))
    rows = {name: measure_row(first, name) for name in (COLOUR, RANDOM)}
    rows |= {name: measure_row(own[name], spec) for name, spec in models.items()}
    told = [one for name in models for one in conditions(rows, name)]
    sys.stdout.write(table(rows) + '\n\n')
    for sentence, holds in told:
        sys.stdout.write(f'{"holds" if holds else "FAILS"}  {sentence}\n')
    if args.picture is not None:
        picture(first, {RANDOM: RANDOM, **models}, args.picture)
    return 0 if all(holds for _, holds in told) else 1
