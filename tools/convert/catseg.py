r"""Convert a published CAT-Seg checkpoint: ``python tools/convert/catseg.py IN OUT``.

IN is a checkpoint of the CVPR 2024 release (detectron2's key names); OUT is read by

    python tools/test.py configs/segmentation/cat-seg/CONFIG OUT \
        --cfg-options model.backbone.pretrained=None model.text_encoder.pretrained=None

A table says what went where. The status is 1 if a tensor has no place, or a place no tensor.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import Tensor

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / 'configs' / 'segmentation' / 'cat-seg'
# Width of the published image tower -> config.
CONFIG_OF_WIDTH = {
    768: CONFIGS / 'cat-seg_openai-vit-b16_1xb4-80k_coco-stuff164k-384x384.py',
    1024: CONFIGS / 'cat-seg_openai-vit-l14-336_1xb4-80k_coco-stuff164k-384x384.py',
}
CLIP = r'sem_seg_head\.predictor\.clip_model\.'
AGGREGATOR = r'sem_seg_head\.predictor\.transformer\.'
OURS = 'decode_head.aggregator.'

# (published name, ours), both whole; None leaves the tensor out. The first that fits counts.
RULES: list[tuple[str, str | None]] = [
    (rf'{CLIP}logit_scale', None),
    (rf'{CLIP}visual\.(.*)', r'backbone.visual.model.\1'),
    (rf'{CLIP}(.*)', r'text_encoder.text.\1'),
    (r'upsample1\.(.*)', r'decode_head.guidance_upsample.0.\1'),
    (r'upsample2\.(.*)', r'decode_head.guidance_upsample.1.\1'),
    (rf'{AGGREGATOR}conv1\.(.*)', rf'{OURS}cost_embedding.\1'),
    (rf'{AGGREGATOR}guidance_projection\.0\.(.*)', rf'{OURS}appearance_projection.\1'),
    (rf'{AGGREGATOR}text_guidance_projection\.0\.(.*)', rf'{OURS}text_projection.\1'),
    (
        rf'{AGGREGATOR}decoder_guidance_projection\.(\d)\.0\.(.*)',
        rf'{OURS}decoder.projections.\1.\2',
    ),
    (rf'{AGGREGATOR}layers\.\d+\.swin_block\.block_\d\.attn_mask', None),
    (
        rf'{AGGREGATOR}layers\.(\d+)\.swin_block\.guidance_norm\.(.*)',
        rf'{OURS}layers.\1.spatial.guidance_norm.\2',
    ),
    *(
        (
            rf'{AGGREGATOR}layers\.(\d+)\.swin_block\.block_{block + 1}\.mlp\.fc{layer}\.(.*)',
            rf'{OURS}layers.\1.spatial.blocks.{block}.mlp.{2 * layer - 2}.\2',
        )
        for block in (0, 1)
        for layer in (1, 2)
    ),
    *(
        (
            rf'{AGGREGATOR}layers\.(\d+)\.swin_block\.block_{block + 1}\.(.*)',
            rf'{OURS}layers.\1.spatial.blocks.{block}.\2',
        )
        for block in (0, 1)
    ),
    (
        rf'{AGGREGATOR}layers\.(\d+)\.attention\.attention\.([qkv]\..*)',
        rf'{OURS}layers.\1.classes.attn.\2',
    ),
    (rf'{AGGREGATOR}layers\.(\d+)\.attention\.MLP\.(.*)', rf'{OURS}layers.\1.classes.mlp.\2'),
    (
        rf'{AGGREGATOR}layers\.(\d+)\.attention\.padding_tokens',
        rf'{OURS}layers.\1.classes.padding_token',
    ),
    (rf'{AGGREGATOR}layers\.(\d+)\.attention\.(.*)', rf'{OURS}layers.\1.classes.\2'),
    (rf'{AGGREGATOR}decoder1\.up\.(.*)', rf'{OURS}decoder.stages.0.up.\1'),
    (rf'{AGGREGATOR}decoder2\.up\.(.*)', rf'{OURS}decoder.stages.1.up.\1'),
    *(
        (
            rf'{AGGREGATOR}decoder{stage + 1}\.conv\.double_conv\.{place}\.(.*)',
            rf'{OURS}decoder.stages.{stage}.{name}.\1',
        )
        for stage in (0, 1)
        for place, name in ((0, 'conv1'), (1, 'norm1'), (3, 'conv2'), (4, 'norm2'))
    ),
    (rf'{AGGREGATOR}head\.(.*)', rf'{OURS}decoder.head.\1'),
    (r'(clip_)?pixel_(mean|std)', None),
]
SEPARATE = re.compile(r'(.*\.attn\.)([qkv])_proj_weight')


def rename(key: str) -> str | None:
    """Return our name of a published tensor, None for one that is not needed.

    Raises:
        KeyError: If no rule knows the name.
    """
    for pattern, ours in RULES:
        match = re.fullmatch(pattern, key)
        if match is not None:
            return None if ours is None else match.expand(ours)
    raise KeyError(key)


def convert(published: dict[str, Tensor]) -> tuple[dict[str, Tensor], Counter[str], list[str]]:
    """Rename and reshape tensors.

    Returns:
        Our state dict; how many tensors each line of the table stands for; names without a rule.
    """
    import torch

    state: dict[str, Tensor] = {}
    table: Counter[str] = Counter()
    unknown = []
    separate: dict[str, dict[str, Tensor]] = {}
    for key, tensor in published.items():
        try:
            name = rename(key)
        except KeyError:
            unknown.append(key)
            continue
        table[f'{group(key)} -> {group(name) if name else "left out"}'] += 1
        if name is None:
            continue
        match = SEPARATE.fullmatch(name)
        if match is not None:
            separate.setdefault(match[1], {})[match[2]] = tensor
        elif 'padding_' in name:
            state[name] = tensor.flatten()
        else:
            state[name] = tensor
    for owner, parts in separate.items():
        missing = [f'{owner}{part}_proj_weight' for part in 'qkv' if part not in parts]
        if missing:
            unknown += [f'{name} (missing)' for name in missing]
            continue
        state[f'{owner}in_proj_weight'] = torch.cat([parts[part] for part in 'qkv'])
    return state, table, unknown


def group(key: str) -> str:
    """Write numbers and what follows them as stars, for the table."""
    parts = key.split('.')
    numbers = [i for i, part in enumerate(parts) if part.isdigit()]
    return '.'.join([*parts[: numbers[0]], '*']) if numbers else '.'.join([*parts[:-1], '*'])


def resize_positions(position: Tensor, num_tokens: int) -> Tensor:
    """Resize a position embedding ``(1 + n * n, W)`` to another square grid.

    Plain bicubic whatever the config says: it is what the trained aggregator has seen.
    """
    import torch

    from refineclip.encoders.towers.position_interpolation import resize_position

    old, new = (round((count - 1) ** 0.5) for count in (len(position), num_tokens))
    patches = resize_position(position[None, 1:], (old, old), (new, new), 'bicubic')
    return torch.cat([position[:1], patches[0]])


def build_expected(config: Path) -> dict[str, Tensor]:
    """Return the state dict of the config's model, without memory or weights."""
    import torch
    from mmengine.config import Config
    from mmengine.registry import MODELS, DefaultScope

    cfg = Config.fromfile(config)
    cfg.model.backbone.update(pretrained=None, init_cfg=None)
    cfg.model.text_encoder.pretrained = None
    with DefaultScope.overwrite_default_scope('mmseg'), torch.device('meta'):
        return MODELS.build(cfg.model).state_dict()


def check(state: dict[str, Tensor], expected: dict[str, Tensor]) -> list[str]:
    """Return what does not fit, in words."""
    holes = [f'no tensor for {key}' for key in expected if key not in state]
    holes += [f'no place for {key}' for key in state if key not in expected]
    holes += [
        f'{key}: expected {tuple(expected[key].shape)}, got {tuple(tensor.shape)}'
        for key, tensor in state.items()
        if key in expected and tensor.shape != expected[key].shape
    ]
    return holes


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('published', type=Path, metavar='IN', help='published checkpoint (.pth)')
    parser.add_argument('out', type=Path, metavar='OUT', help='file to write (.pth)')
    parser.add_argument(
        '--config', type=Path, help='config of the model (default: by the width of the tower)'
    )
    return parser.parse_args(argv)


def main(argv: list[str] | None = None) -> int:
    """Convert a file and print the table."""
    args = parse_args(argv)
    import torch

    from refineclip.encoders.weights.checkpoint_file import read_checkpoint

    try:
        published: dict[str, Any] = read_checkpoint(args.published)
    except (OSError, ValueError) as error:
        print(f'catseg: {error}', file=sys.stderr)
        return 1
    state, table, unknown = convert(published)
    for line, count in table.items():
        print(f'{count:5d}  {line}')
    position = 'backbone.visual.model.positional_embedding'
    width = state[position].shape[1] if position in state else None
    config = args.config or CONFIG_OF_WIDTH.get(width)
    if config is None:
        print(
            f'catseg: expected an image tower of width {sorted(CONFIG_OF_WIDTH)}, got {width}; '
            'give --config, or is this no CAT-Seg checkpoint of 2024?',
            file=sys.stderr,
        )
        return 1
    expected = build_expected(config)
    if position in state and state[position].shape != expected[position].shape:
        print(f'       {position}: resized from {len(state[position])} tokens')
        state[position] = resize_positions(state[position], len(expected[position]))
    holes = [f'no rule for {key}' for key in unknown] + check(state, expected)
    for hole in holes:
        print(f'catseg: {hole}', file=sys.stderr)
    if holes:
        return 1
    args.out.parent.mkdir(parents=True, exist_ok=True)
    torch.save({'meta': {}, 'state_dict': state}, args.out)
    print(f'{len(state)} tensors, none missing; wrote {args.out} for {config.name}')
    return 0


if __name__ == '__main__':
    raise SystemExit(main())
