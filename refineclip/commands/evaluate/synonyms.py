"""``evaluate synonyms``: a detector tested with each class name replaced by a synonym."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..config_options import add_config_options, override, read_config_file
from .common import check_writable, environment, format_table, progress, write_json

if TYPE_CHECKING:
    from mmengine.config import Config
    from mmengine.runner import Runner

EXAMPLE = (
    'configs/detection/fvit/fvit_eva02-vit-b16_8xb8-amp-3e_ov-coco-640.py epoch_3.pth '
    '--json synonyms.json'
)
NOTES = """The drop says how much of a score hangs on the very words of the benchmark. Weights,
images and boxes of training are the same in both tests; base classes stay base classes.
The synonyms of OV-COCO's 65 classes are shipped; other data needs --synonyms FILE.
"""

# Part of a metric's key -> head of its column: mmdet's names for OV-COCO and LVIS.
COLUMNS = {
    'novel_ap50': 'novel AP50',
    'base_ap50': 'base AP50',
    'bbox_mAP_50': 'all AP50',
    'segm_APr': 'mask APr',
    'segm_AP': 'mask AP',
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``evaluate synonyms``."""
    parser.add_argument('config', type=Path, help='config of a detector with a vocabulary')
    parser.add_argument('checkpoint', type=Path, help='its checkpoint')
    parser.add_argument(
        '--synonyms', type=Path, metavar='FILE', help='lines "name; synonym" (default: OV-COCO)'
    )
    parser.add_argument('--work-dir', help='default: work_dirs/<config name>')
    parser.add_argument('--json', type=Path, metavar='FILE', help='also write the scores')
    add_config_options(parser, 'test_dataloader.batch_size=1')


def run(args: argparse.Namespace) -> int:
    """Test with the names, test with the synonyms, print both and the drop."""
    for path in (args.config, args.checkpoint):
        if not path.is_file():
            raise FileNotFoundError(f'expected a file, got {path}, which does not exist')
    check_writable(args.json)

    from refineclip.evaluation.regions.synonym_swap import (
        SHIPPED_SYNONYMS,
        SynonymSwap,
        mean_scores,
    )

    swap = SynonymSwap(args.synonyms or SHIPPED_SYNONYMS)
    runner = _build_runner(_load_config(args))
    classes = tuple(runner.test_loop.dataloader.dataset.metainfo['classes'])
    vocabularies = [swap.names(classes, i) for i in range(swap.num_rounds(classes))]
    settings = _settings(runner.cfg, args)
    plain = _test(runner, None, settings)
    rounds = [_test(runner, names, settings) for names in vocabularies]
    swapped = mean_scores(rounds)
    sys.stdout.write(_table(plain, swapped))
    if args.json is not None:
        content = dict(config=args.config, checkpoint=args.checkpoint, classes=classes)
        content.update(names=plain, synonyms=swapped, rounds=rounds, vocabularies=vocabularies)
        write_json(args.json, {**content, 'environment': environment()})
    return 0


def _load_config(args: argparse.Namespace) -> Config:
    from refineclip.datasets.loader_settings import settle_workers
    from refineclip.evaluation.streams.streamed_test_loop import streamed

    cfg = read_config_file(args.config)
    override(cfg, args.cfg_options)
    settle_workers(cfg)
    cfg.test_cfg = streamed(cfg.get('test_cfg'))
    cfg.load_from = str(args.checkpoint)
    cfg.work_dir = args.work_dir or cfg.get('work_dir') or str(Path('work_dirs') / args.config.stem)
    return cfg


def _build_runner(cfg: Config) -> Runner:
    """Build the runner, and give it the hook that changes vocabularies if it has none.

    Raises:
        ValueError: If the model cannot change its vocabulary.
    """
    from mmengine.runner import Runner

    from refineclip.detection import DetVocabularyHook

    runner = Runner.from_cfg(cfg)
    if not hasattr(runner.model, 'set_vocabulary'):
        raise ValueError(
            f'expected a detector that can change its vocabulary, such as FViT, got '
            f'{type(runner.model).__name__}'
        )
    if not any(isinstance(hook, DetVocabularyHook) for hook in runner.hooks):
        runner.register_hook(DetVocabularyHook())
    return runner


def _settings(cfg: Config, args: argparse.Namespace) -> dict[str, Any]:
    """Everything that decides what the metrics take from an image, beside names and data."""
    from refineclip import __version__
    from refineclip.evaluation.streams import describe_file

    parts = ('model', 'test_dataloader', 'test_evaluator', 'custom_hooks')
    settings = {part: cfg.get(part) for part in parts}
    return dict(settings, version=__version__, checkpoint=describe_file(args.checkpoint))


def _test(
    runner: Runner, names: tuple[str, ...] | None, settings: Mapping[str, Any]
) -> dict[str, float]:
    """Test with these names, or with the data set's own."""
    from refineclip.detection import DetVocabularyHook

    for hook in runner.hooks:
        if isinstance(hook, DetVocabularyHook):
            hook.vocabulary = names
    loop = runner.test_loop
    loop.keep(Path(runner.work_dir) / 'images', {**settings, 'names': names})
    loop.track = progress('names' if names is None else 'synonyms')
    return dict(runner.test())


def _table(plain: Mapping[str, float], swapped: Mapping[str, float]) -> str:
    """Names, synonyms and the difference, in points."""
    keys: dict[str, str] = {}
    for part, head in COLUMNS.items():
        keys.update({key: head for key in plain if key.rpartition('/')[2] == part})
    keys = keys or {key: key for key in plain}

    def cells(scores: Mapping[str, Any]) -> list[str]:
        return [f'{100 * scores[key]:.1f}' if key in scores else '-' for key in keys]

    # Adding zero turns -0.0 into 0.0.
    points = {k: round(100 * (swapped[k] - plain[k]), 1) + 0.0 for k in keys if k in swapped}
    rows = {'names': cells(plain), 'synonyms': cells(swapped)}
    rows['difference'] = [f'{points[key]:+.1f}' if key in points else '-' for key in keys]
    return format_table('tested with', list(keys.values()), rows)
