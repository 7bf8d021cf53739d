"""What the demo writes at its end: table, judged claims, json and report.html."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from refineclip.evaluation.bootstrap import ImageScores
from refineclip.visualization import front_figure
from refineclip.visualization.report import (
    Block,
    Figure,
    Folded,
    Paragraph,
    Section,
    Table,
    write_report,
)

from ..evaluate.common import environment, format_table, write_json
from . import claims, downstream
from .claims import FROZEN, R_SC_RLA, REFINER, REGION, RLA, SC_RLA, SPATIAL, Judgement
from .figures import make_figures
from .measures import Setting
from .runs import BLENDS, blend_name

Rows = Mapping[str, Sequence[Mapping[str, ImageScores]]]
Downstream = Mapping[str, Mapping[str, Sequence[float]]]

COLUMNS = {
    'boxes_class_top1': 'boxes',
    'masks_class_top1': 'masks',
    'crops_class_top1': 'crops',
    'auc': 'auc',
    'imk': 'imk',
    'gk': 'gk',
    'knn': 'knn',
    'ridge': 'ridge',
    'image_to_text_recall5': 'I>T R@5',
    'text_to_image_recall5': 'T>I R@5',
}
LEGEND = (
    'Regions by class names, mean accuracy over 16 named kinds and 6 backgrounds: boxes (RoIAlign '
    'on the dense map), masks (mean token), crops (image embedding of the cut-out). Tokens without '
    'text: auc (affinity within a segment), imk (k-means within images, mIoU), gk (k-means over '
    'all images, mIoU), knn and ridge (patch classification). Whole images: recall at 5 of '
    'captions by images and of images by captions. All between 0 and 1, higher is better.'
)
LEAD = (
    'CLIP knows what is in a picture, but its tokens do not know where. Aligning them with regions '
    '(RLA) lets words find things and blurs their outlines; distilling the correlations of the '
    'original (SC-RLA), or of a Refiner that sharpens it first (R-SC-RLA), is meant to keep them. '
    'Equal colours are equal tokens: what one thing is should have one colour, and an outline.'
)
WARNING = (
    'The microworld is drawn by a generator, and its CLIP has 1.5 million parameters. These '
    'numbers show that the code runs and in which direction things move here; they say nothing '
    'about real images.'
)
CRITERION = (
    'A comparison holds if its whole 95 % interval is above its threshold, does not hold if the '
    'whole interval is below, and is within noise otherwise; a claim is as good as its worst '
    'comparison. Measures and thresholds were written down before the demo was run. Region '
    'accuracy is decided by boxes, spatial quality by gk.'
)


def cell(scores: Sequence[Mapping[str, ImageScores]], measure: str) -> str:
    """Value in the table: the mean over seeds, with their standard deviation if several."""
    values = [one[measure].value for one in scores if measure in one]
    return mean_cell(values) if values else '-'


def mean_cell(values: Sequence[float]) -> str:
    """Mean, with the standard deviation if there are several."""
    spread = f' ± {np.std(values, ddof=1):.3f}' if len(values) > 1 else ''
    return f'{np.mean(values):.3f}{spread}'


def results_table(rows: Rows) -> str:
    """The table as text."""
    body = {row: [cell(scores, key) for key in COLUMNS] for row, scores in rows.items()}
    return format_table('microworld', list(COLUMNS.values()), body)


def downstream_table(scores: Downstream) -> str:
    """The table of detector and segmentors as text."""
    body = {row: _downstream_cells(own) for row, own in scores.items()}
    return format_table('in mmdet, mmseg', list(downstream.COLUMNS), body) + '\n'


def criterion(args: argparse.Namespace) -> str:
    """How the claims are judged, with where the intervals come from."""
    source = 'a paired bootstrap over images'
    if len(args.seeds) > 1:
        source += f' or, at either end where it is wider, a t interval over {len(args.seeds)} seeds'
    return f'{CRITERION} Intervals: {source}.'


def claims_text(judgements: Sequence[Judgement], args: argparse.Namespace) -> str:
    """One sentence per claim."""
    parts = [f'{one.sentence}\n' for one in judgements]
    if args.quick:
        parts.append('--quick: a few images and steps; none of these numbers means anything.\n')
    return '\n'.join(parts)


def write_results(
    args: argparse.Namespace,
    setting: Setting,
    rows: Rows,
    curve: Any,
    contexts: Rows,
    downstream: Downstream | None = None,
) -> tuple[Path, list[Judgement]]:
    """Judge the claims, write ``results.json`` and ``report.html``.

    Args:
        args: Command line.
        setting: What all rows share.
        rows: Row of the table -> scores of each seed.
        curve: The refining curve.
        contexts: Its rows for the claims.
        downstream: Row -> column -> values, of detector and segmentors.

    Returns:
        The report, and the judgements.
    """
    judgements = claims.judge({**rows, **contexts})
    values = {
        row: [{key: one.value for key, one in scores.items()} for scores in seeds]
        for row, seeds in {**rows, **contexts}.items()
    }
    verdicts = {
        one.claim.name: {
            'verdict': one.verdict,
            'deciding': [[str(c), vars(i), v] for c, i, v in one.deciding],
            'beside': [[str(c), vars(i), v] for c, i, v in one.beside],
        }
        for one in judgements
    }
    content = {
        'options': vars(args),
        'values': values,
        'claims': verdicts,
        'downstream': downstream,
    }
    write_json(args.out / 'results.json', {**content, 'environment': environment()})
    command = f'python -m refineclip demo --seeds {" ".join(map(str, args.seeds))}'
    (_, picture, alt), *chapters = make_figures(args, setting, differences(rows), curve)
    lead: list[Block] = [
        Paragraph(LEAD),
        Figure(picture, alt),
        *(Paragraph(one.headline) for one in judgements),
        Figure(front(rows), 'Region accuracy against spatial quality of five rows.'),
        Paragraph(WARNING, strong=True),
    ]
    sections = [
        Section('The five claims', _claims(args, judgements)),
        Section('All numbers', [Folded('The table', [_table(rows)]), Paragraph(LEGEND)]),
        *([] if downstream is None else [_downstream(downstream)]),
        *(Section(title, [Figure(figure, text)]) for title, figure, text in chapters),
        Section(
            'How it was made',
            [
                Paragraph(
                    f'Frozen CLIP, stage 1 (the Refiner), stage 2 (all variants from the same '
                    f'start), measured on images that no stage has seen. Command: {command}'
                    f'{" --quick" * args.quick}. Logs, configs and checkpoints of every run are '
                    f'below {args.out / "runs"}.'
                )
            ],
        ),
    ]
    path = write_report(args.out / 'report.html', 'refineclip on the microworld', sections, lead)
    return path, judgements


def front(rows: Rows) -> Any:
    """Boxes against gk of the rows that the claims are about, and of RLA blended with CLIP."""
    away = differences(rows)
    base = {m: float(np.mean([one[m].value for one in rows[FROZEN]])) for m in (REGION, SPATIAL)}

    def span(row: str, measure: str) -> tuple[float, float, float]:
        value, low, high = away[row][measure] if row != FROZEN else (0.0, 0.0, 0.0)
        return base[measure] + value, base[measure] + low, base[measure] + high

    shown = [FROZEN, REFINER, RLA, SC_RLA, R_SC_RLA]
    blends = [FROZEN, *(blend_name(alpha) for alpha in BLENDS), RLA]
    rival = [(span(row, REGION)[0], span(row, SPATIAL)[0]) for row in blends]
    return front_figure(
        {row: (span(row, REGION), span(row, SPATIAL)) for row in shown},
        ('region accuracy (boxes)', 'spatial quality (gk)'),
        'Up and to the right is better. Bars: 95 % intervals of the difference to the frozen CLIP. '
        'Dotted: the weights of RLA blended with those of the frozen CLIP, which costs nothing.',
        ('RLA blended with CLIP', rival),
    )


def _table(rows: Rows) -> Table:
    several = any(len(scores) > 1 for scores in rows.values())
    caption = 'Mean and standard deviation over seeds.' if several else 'One seed.'
    body = [[row, *(cell(scores, key) for key in COLUMNS)] for row, scores in rows.items()]
    return Table(['row', *COLUMNS.values()], body, caption)


def _downstream_cells(own: Mapping[str, Sequence[float]]) -> list[str]:
    return [mean_cell(own[name]) if name in own else '-' for name in downstream.COLUMNS]


def _downstream(scores: Downstream) -> Section:
    body = [[row, *_downstream_cells(own)] for row, own in scores.items()]
    table = Table(['row', *downstream.COLUMNS], body, 'Mean and standard deviation over seeds.')
    return Section('In a detector and two segmentors', [table, Paragraph(downstream.LEGEND)])


def _claims(args: argparse.Namespace, judgements: Sequence[Judgement]) -> list[Any]:
    blocks: list[Any] = [Paragraph(criterion(args))]
    for one in judgements:
        blocks.append(Paragraph(one.headline))
        body = [
            [str(comparison), str(interval), verdict, decides]
            for decides, parts in (('yes', one.deciding), ('no', one.beside))
            for comparison, interval, verdict in parts
        ]
        columns = ['comparison', 'difference [95 %]', 'verdict', 'decides']
        blocks.append(Folded('Numbers', [Table(columns, body, align='lrll')]))
    return blocks


def differences(rows: Rows) -> dict[str, dict[str, tuple[float, float, float]]]:
    """Difference of every row to the frozen CLIP with its 95 % interval."""
    found: dict[str, dict[str, tuple[float, float, float]]] = {}
    for row, scores in rows.items():
        if row == FROZEN:
            continue
        found[row] = {}
        for measure in COLUMNS:
            if all(measure in one for one in scores):
                interval = claims.compare(
                    [one[measure] for one in scores], [one[measure] for one in rows[FROZEN]]
                )
                found[row][measure] = interval.value, interval.low, interval.high
    return found
