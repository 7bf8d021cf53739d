"""``python -m refineclip COMMAND``: there is no console script, because ``mim`` cannot bear one."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

from refineclip import __version__
from refineclip.commands.columns import align

# Task -> command -> what it does, and an example of its arguments: one of those that its own help
# ends with. Where possible it runs as it stands, in a checkout and on what `microworld` has drawn.
TASKS = {
    'set up and try': {
        'doctor': ('say what is installed, what is missing and the command that mends it', ''),
        'demo': (
            'refine a tiny CLIP on drawn images; table, judged claims, report.html',
            '--quick',
        ),
        'microworld': (
            'write the drawn data set of the demo, in the COCO layout',
            'data/microworld',
        ),
    },
    'train (tools/train.py, mim train)': {
        'plan': (
            'FLOPs, parameters, memory and time of a config, before it starts',
            'configs/microworld/r-sc-rla_microworld.py --gpus 8 --gpu a100',
        ),
        'shard': (
            'write a folder of images as a few large files, for clusters',
            'data/microworld/train --out data/microworld/train_shards',
        ),
    },
    'measure and see': {
        'evaluate': (
            'measure encoders side by side: regions, spatial awareness, image level',
            'spatial --data data/microworld --split val --image-size 128 --model microworld-clip '
            '--models frozen=shipped random=random colour=colour',
        ),
        'compare': (
            'train ways of refining CLIP on the same data; one table, one figure',
            '--suite microworld --methods RLA SC-RLA --quick --out work_dirs/compare',
        ),
        'app': (
            'open a page: click a token, see its map in every row; words; boxes',
            '--model ViT-B-16-quickgelu --models frozen=openai refined=FILE --images photos/',
        ),
        'draw': (
            'draw dense maps of encoders side by side, or a report of all figures',
            'pca --model microworld-clip --models frozen=shipped random=random '
            '--images data/microworld/val --num-images 2 --out pca.png',
        ),
    },
    'take away': {
        'export': (
            'write a model for open_clip, transformers, timm or onnxruntime, and compare',
            'onnx refined_epoch_6.pth --model ViT-B-16-quickgelu --size 336 --out vit-b16-onnx',
        ),
    },
    'use words': {
        'detect': (
            'detect what words name, with an open-vocabulary detector (needs mmdet)',
            'configs/microworld/fvit_microworld.py work_dirs/fvit_microworld/iter_500.pth '
            'data/microworld/val --texts "fish . boat . sea" --out found',
        ),
        'segment': (
            'name every pixel by words, with or without training (needs mmseg)',
            'data/microworld/val --texts "fish . boat . sea" --model microworld-clip '
            '--pretrained shipped --templates "a {}" --short-side 128 --window 0 0 --out segmented',
        ),
    },
}
COMMANDS = tuple(command for commands in TASKS.values() for command in commands)


def main(argv: Sequence[str] | None = None) -> int:
    """Run one subcommand.

    Args:
        argv: Command line without the program's name; ``sys.argv[1:]`` when None.

    Returns:
        The exit status of the subcommand.
    """
    parser = argparse.ArgumentParser(
        prog='python -m refineclip',
        description=f'refineclip {__version__}\n\n{overview()}',
        epilog='`python -m refineclip COMMAND --help` lists the options of a command. Examples '
        'run in a checkout, after\nthat of microworld; the detector is trained by '
        '`python tools/train.py configs/microworld/fvit_microworld.py`.',
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument('--version', action='version', version=__version__)
    parser.add_argument('command', nargs='?', choices=COMMANDS, metavar='COMMAND')
    parser.add_argument('arguments', nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    args = parser.parse_args(argv)
    if args.command is None:
        parser.print_help(sys.stderr)
        return 2
    if '' in args.arguments:  # as a path it would be the current folder
        before = [args.command, *args.arguments][args.arguments.index('')]
        parser.error(f'expected no empty argument, got one near {before!r}; was a variable unset?')
    # Imported only now: `doctor` must run where the libraries that `demo` imports are missing.
    module = importlib.import_module(f'refineclip.commands.{args.command}')
    return int(module.main(args.arguments) or 0)


def overview() -> str:
    """Commands by task, with an example of each."""
    width = max(map(len, COMMANDS))
    parts = []
    for task, commands in TASKS.items():
        rows = []
        for name, (text, example) in commands.items():
            rows.append((name.ljust(width), text))
            rows.append(('', f'$ python -m refineclip {name} {example}'))
        parts.append(f'{task}:\n{align(rows, indent="  ")}')
    return '\n\n'.join(parts)


if __name__ == '__main__':
    sys.exit(main())
