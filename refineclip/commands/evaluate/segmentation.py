"""``evaluate segmentation``: many benchmarks and models, one table."""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config_options import add_config_options
from .common import (
    check_writable,
    environment,
    format_table,
    parse_rows,
    quiet_logging,
    write_json,
)

if TYPE_CHECKING:
    from refineclip.segmentation.benchmarks.benchmark import Benchmark

EXAMPLE = (
    'configs/segmentation/training-free/text-seg_openai-vit-b16_voc20-336.py '
    '--models before=openai after=refined_epoch_6.pth --compare before --benchmarks voc20,pc59'
)
NOTES = """Benchmarks: voc21 pc60 coco-object voc20 cityscapes pc59 a150 coco-stuff (together
'training-free'), a847 pc459 a150 pc59 voc20 voc20b (together 'cat-seg'), coco-panoptic. The three
of both tables differ in labels, words or average: --protocol chooses, or a key as 'cat-seg/a150'.
CONFIG brings the model and the test pipeline; data set, vocabulary, labels and metric are the
benchmark's. Results are kept in --work-dir and read back where model, pipeline, weights and data
are the same. Exit status 1 if a benchmark had to be left out.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``evaluate segmentation``."""
    parser.add_argument('config', type=Path, metavar='CONFIG', help='config of a segmentor')
    parser.add_argument(
        'checkpoint',
        nargs='?',
        metavar='CKPT',
        help='its checkpoint; for TextSegmentor whatever is a row of --models; default: the '
        "config's own weights",
    )
    parser.add_argument(
        '--models',
        nargs='+',
        metavar='NAME=CKPT',
        help='rows: checkpoints of the model, or for TextSegmentor those of its encoder: a weight '
        'file or tag, a refined_*.pth, a checkpoint of either stage, random; @N taps block N',
    )
    parser.add_argument('--compare', metavar='NAME', help='also print differences to this row')
    parser.add_argument(
        '--benchmarks',
        default='training-free',
        help='names, commas between (default: training-free)',
    )
    parser.add_argument(
        '--protocol',
        choices=['training-free', 'cat-seg'],
        help='whose a150, pc59 and voc20 (default: training-free for TextSegmentor, else cat-seg)',
    )
    parser.add_argument(
        '--data-root', type=Path, default=Path('data'), help='folder of all data (default: data)'
    )
    parser.add_argument(
        '--work-dir', type=Path, help='results and logs (default: work_dirs/evaluate_NAME)'
    )
    parser.add_argument('--json', type=Path, metavar='FILE', help='write every number and setting')
    parser.add_argument('--limit', type=int, metavar='N', help='use the first N images of each')
    parser.add_argument('--num-workers', type=int, help="default: the config's")
    add_config_options(parser, 'model.prob_thd=0.1')


def run(args: argparse.Namespace) -> int:
    """Evaluate; returns 1 if a benchmark was left out."""
    check_writable(args.json)
    rows = _rows(args)
    if args.limit is not None and args.limit < 1:
        raise ValueError(f'--limit: expected one or more images, got {args.limit}')
    if args.num_workers is not None and args.num_workers < 0:
        raise ValueError(f'--num-workers: expected 0 or more, got {args.num_workers}')
    try:
        from refineclip.segmentation.benchmarks import parse_benchmarks

        from .segmentation_rows import SegmentationRows, read_config
    except ImportError as error:
        raise ValueError(
            f'expected mmseg with mmcv, got {error}; `python -m refineclip doctor` says what to '
            'install'
        ) from error
    quiet_logging()
    cfg = read_config(args.config, args.cfg_options)
    own = 'training-free' if cfg.model.type == 'TextSegmentor' else 'cat-seg'
    benchmarks = parse_benchmarks(args.benchmarks, args.protocol or own)
    names = [benchmark.name for benchmark in benchmarks]
    if twice := [benchmark.key for benchmark in benchmarks if names.count(benchmark.name) > 1]:
        raise ValueError(f'--benchmarks: expected one table of each at a time, got {twice}')
    work_dir = args.work_dir or Path('work_dirs') / f'evaluate_{args.config.stem}'
    measure = SegmentationRows(cfg, rows, args.data_root, work_dir, args.limit, args.num_workers)
    left_out = {
        benchmark.name: f'no {", ".join(map(str, missing))}; {benchmark.prepare}'
        for benchmark in benchmarks
        if (missing := benchmark.missing(args.data_root))
    }
    results: dict[str, dict[str, Any]] = {row: {} for row in rows}
    for row in rows if len(left_out) < len(benchmarks) else ():
        for benchmark in benchmarks:
            if benchmark.name in left_out:
                continue
            try:
                results[row][benchmark.name] = measure.result(row, benchmark)
            except (ValueError, OSError) as error:
                left_out[benchmark.name] = str(error).strip().splitlines()[-1]
    _print(results, benchmarks, left_out, args.compare)
    if args.json is not None:
        content = {
            'kind': 'segmentation',
            'config': str(args.config),
            'rows': rows,
            'left_out': left_out,
            'results': results,
            'environment': environment(),
        }
        write_json(args.json, content)
    return 1 if left_out else 0


def _rows(args: argparse.Namespace) -> dict[str, str | None]:
    if args.models and args.checkpoint:
        raise ValueError('expected CKPT or --models, got both; give every row in --models')
    if args.models:
        return dict(parse_rows(args.models, args.compare))
    if args.compare is not None:
        raise ValueError('--compare: expected rows in --models to compare, got none')
    return {'model': args.checkpoint}


def _print(
    results: Mapping[str, Mapping[str, Any]],
    benchmarks: tuple[Benchmark, ...],
    left_out: Mapping[str, str],
    compare: str | None,
) -> None:
    from refineclip.segmentation.benchmarks.vocabulary_iou import AVERAGES

    partial = {
        name for own in results.values() for name, one in own.items() if not one['is_complete']
    }
    write = sys.stdout.write
    write(_table('mIoU, %', 'mIoU', results, benchmarks, partial, compare))
    for line in _captions(benchmarks):
        write(f'{line}\n')
    if others := tuple(one for one in benchmarks if one.average != 'mmseg'):
        title = "mmseg's mIoU, %"
        write('\n' + _table(title, 'mIoU_mmseg', results, others, partial, compare))
        write(f'{AVERAGES["mmseg"]}\n')
    for benchmark in benchmarks:
        if benchmark.name in partial:
            found = next(own[benchmark.name] for own in results.values() if benchmark.name in own)
            published = ' or '.join(map(str, benchmark.counts))
            write(f'* {benchmark.name}: {found["num_images"]} images, published are {published}\n')
    for name, reason in left_out.items():
        write(f'left out {name}: {reason}\n')


def _table(
    title: str,
    key: str,
    results: Mapping[str, Mapping[str, Any]],
    benchmarks: tuple[Benchmark, ...],
    partial: set[str],
    compare: str | None,
) -> str:
    """Lay out one score of all rows, and differences to one of them."""
    names = [benchmark.name for benchmark in benchmarks]
    heads = [f'{name}*' if name in partial else name for name in names]
    values = {
        row: [own[name][key] if name in own else math.nan for name in names]
        for row, own in results.items()
    }
    if len(names) > 1:
        heads.append('mean')
        values = {row: [*own, sum(own) / len(own)] for row, own in values.items()}
    cells = {row: [_cell(value, '.2f') for value in own] for row, own in values.items()}
    text = format_table(title, heads, cells)
    if compare is None:
        return text
    changes = {
        f'{row} - {compare}': [
            _cell(new - old, '+.2f') for new, old in zip(own, values[compare], strict=True)
        ]
        for row, own in values.items()
        if row != compare
    }
    return f'{text}\n{format_table("difference", heads, changes)}'


def _captions(benchmarks: tuple[Benchmark, ...]) -> list[str]:
    """A line per protocol: what its benchmarks are, and how IoU is averaged over classes."""
    from refineclip.segmentation.benchmarks.vocabulary_iou import AVERAGES

    columns: dict[str, list[Benchmark]] = {}
    for benchmark in benchmarks:
        columns.setdefault(benchmark.protocol, []).append(benchmark)
    return [
        f'protocol {protocol} ({", ".join(one.name for one in own)}): {AVERAGES[own[0].average]}'
        for protocol, own in columns.items()
    ]


def _cell(value: float, form: str) -> str:
    return '-' if math.isnan(value) else format(value, form)
