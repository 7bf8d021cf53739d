"""Evaluate a checkpoint: ``python tools/test.py CONFIG CHECKPOINT`` or ``mim test``."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from mmengine.config import Config

# A checkout's package and its projects (`projects.cause.cause`) are found without an installation.
sys.path.append(str(Path(__file__).resolve().parents[1]))


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line; heavy libraries are imported after it, so errors come at once."""
    from refineclip.commands.config_options import add_config_options

    parser = argparse.ArgumentParser(description='Evaluate a checkpoint with its config.')
    parser.add_argument('config', type=Path, help='config file')
    parser.add_argument('checkpoint', type=Path, help='checkpoint file')
    parser.add_argument(
        '--work-dir', help='folder for logs and metrics (default: work_dirs/<config name>)'
    )
    parser.add_argument('--out', type=Path, metavar='FILE.pkl', help='also save all predictions')
    words = parser.add_mutually_exclusive_group()
    words.add_argument(
        '--texts',
        metavar='"A . B"',
        help="open vocabulary: other names of the data set's classes, in their order",
    )
    words.add_argument(
        '--vocabulary', type=Path, metavar='FILE', help='the same, a name a line, synonyms after ;'
    )
    add_config_options(parser, 'test_dataloader.batch_size=1')
    parser.add_argument(
        '--launcher',
        choices=['none', 'pytorch', 'slurm', 'mpi'],
        default='none',
        help='how the processes are started (default: none, one process)',
    )
    # Launchers differ in the spelling that they pass.
    parser.add_argument(
        '--local-rank', '--local_rank', type=int, default=0, help='set by launchers'
    )
    args = parser.parse_args(argv)
    for name in ('config', 'checkpoint'):
        if not getattr(args, name).is_file():
            parser.error(
                f'expected a {name} file, got {str(getattr(args, name))!r}, which does not exist'
            )
    if args.out is not None and args.out.suffix not in ('.pkl', '.pickle'):
        parser.error(f'expected a .pkl file for --out, got {str(args.out)!r}')
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    return args


def load_config(args: argparse.Namespace) -> Config:
    """Read the config and lay the command line over it.

    Raises:
        SystemExit: With a message, when an option does not fit the config.
    """
    from refineclip.commands.config_options import override, read_config_file
    from refineclip.datasets.loader_settings import settle_workers

    try:
        cfg = read_config_file(args.config, needed=())
        override(cfg, args.cfg_options)
    except ValueError as error:
        raise SystemExit(str(error)) from error
    settle_workers(cfg)
    cfg.launcher = args.launcher
    cfg.load_from = str(args.checkpoint)
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = str(Path('work_dirs') / args.config.stem)
    if args.texts is not None or args.vocabulary is not None:
        set_vocabulary(cfg, args)
    return cfg


def set_vocabulary(cfg: Config, args: argparse.Namespace) -> None:
    """Give the names to the config's vocabulary hook.

    Raises:
        SystemExit: With a message, when there is no such hook, or names are empty or doubled.
    """
    from refineclip.datasets.vocabularies import parse_texts, read_vocabulary

    hooks = [hook for hook in cfg.get('custom_hooks', []) if hook['type'] == 'DetVocabularyHook']
    if not hooks:
        raise SystemExit(
            'expected a config with DetVocabularyHook in custom_hooks for --texts or --vocabulary, '
            f'got none in {args.config}'
        )
    try:
        names = parse_texts(args.texts) if args.texts else read_vocabulary(args.vocabulary)
    except (ValueError, OSError) as error:
        raise SystemExit(str(error)) from error
    hooks[0]['vocabulary'] = list(names)


def main() -> None:
    """Build the runner and test."""
    args = parse_args()
    cfg = load_config(args)

    from mmengine.evaluator import DumpResults
    from mmengine.registry import RUNNERS
    from mmengine.runner import Runner

    runner = RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)
    if args.out is not None:
        runner.test_evaluator.metrics.append(DumpResults(out_file_path=str(args.out)))
    runner.test()


if __name__ == '__main__':
    main()
