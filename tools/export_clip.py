r"""Write a CLIP that ContrastivePretraining trained as a folder that open_clip can load.

Example:
    python tools/export_clip.py work_dirs/microworld-clip_1xb64-1600i_pairs/iter_1600.pth \
        --config refineclip/assets/microworld-clip --out work_dirs/microworld-clip
"""

from __future__ import annotations

import argparse
import shutil
from pathlib import Path

PREFIX = 'clip.'
OURS, LIBRARY = 'visual.model.', 'visual.'


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('checkpoint', type=Path, help='what the pre-training saved')
    parser.add_argument(
        '--config', type=Path, required=True, help='folder with open_clip_config.json'
    )
    parser.add_argument('--out', type=Path, required=True, help='folder to write; may be --config')
    args = parser.parse_args(argv)
    if not args.checkpoint.is_file():
        parser.error(f'expected a checkpoint, got no file {args.checkpoint}')
    if not (args.config / 'open_clip_config.json').is_file():
        parser.error(f'expected open_clip_config.json in {args.config}, got none')
    return args


def main(argv: list[str] | None = None) -> None:
    """Rename, round to float16, save, and load what was saved."""
    args = parse_args(argv)
    from safetensors.torch import save_file

    from refineclip.encoders.build import build_clip
    from refineclip.encoders.weights.checkpoint_file import read_checkpoint

    state = read_checkpoint(args.checkpoint)
    weights = {}
    for key, tensor in state.items():
        if key.startswith(PREFIX):
            name = key.removeprefix(PREFIX)
            name = LIBRARY + name.removeprefix(OURS) if name.startswith(OURS) else name
            weights[name] = tensor.half().contiguous()
    if not weights:
        raise SystemExit(
            f'expected a checkpoint of ContrastivePretraining with keys {PREFIX}*, got keys like '
            f'{list(state)[:3]}'
        )
    args.out.mkdir(parents=True, exist_ok=True)
    for source in args.config.iterdir():
        if source.suffix in ('.json', '.gz') and source.parent.resolve() != args.out.resolve():
            shutil.copy2(source, args.out)
    target = args.out / 'open_clip_model.safetensors'
    save_file(weights, target)
    clip = build_clip(f'local-dir:{args.out}')
    print(f'{target}: {sum(p.numel() for p in clip.parameters())} parameters, float16')


if __name__ == '__main__':
    main()
