r"""Fit a text head for a vision-only tower on the ground-truth crops of a COCO panoptic folder.

Example:
    python tools/fit_text_head.py --model timm/vit_small_patch14_dinov2 \
        --pretrained weights.safetensors --data-root data/coco \
        --text-embeddings coco-panoptic-133.npy --out work_dirs/text_head.safetensors
"""

from __future__ import annotations

import argparse
from pathlib import Path


def parse_args(argv: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    from refineclip.commands.evaluate.common import usable_device

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('--model', required=True, help="as in build_clip, e.g. 'timm/NAME'")
    parser.add_argument('--pretrained', help='tag or weight file (default: random weights)')
    parser.add_argument('--data-root', type=Path, required=True, help='COCO folder')
    parser.add_argument('--split', default='train2017', help='labelled split to fit on')
    parser.add_argument(
        '--text-embeddings',
        type=Path,
        required=True,
        help='.npy (C, T), one row per category in the order of sorted category ids',
    )
    parser.add_argument('--out', type=Path, required=True, help='.safetensors file to write')
    parser.add_argument('--crop-size', type=int, default=224, help='side of a crop in pixels')
    parser.add_argument('--min-area', type=float, default=0.01, help='smallest box, share of image')
    parser.add_argument('--ridge', type=float, default=100.0, help='weight of the squared norm')
    parser.add_argument(
        '--mean-token-out',
        type=Path,
        help='also write a head that reads the mean patch token of a crop instead of its embedding',
    )
    parser.add_argument('--limit', type=int, help='use the first images only')
    parser.add_argument('--device', type=usable_device, default='cpu', help='torch device')
    args = parser.parse_args(argv)
    if not args.text_embeddings.is_file():
        parser.error(f'expected a file of text embeddings, got no {args.text_embeddings}')
    for out in filter(None, (args.out, args.mean_token_out)):
        if out.suffix != '.safetensors':
            parser.error(f'expected an output name that ends in .safetensors, got {out}')
    return args


def main(argv: list[str] | None = None) -> None:
    """Encode the crops, fit, save."""
    args = parse_args(argv)

    from refineclip.datasets.coco_panoptic import CocoPanoptic
    from refineclip.encoders.build import build_clip
    from refineclip.encoders.weights.checkpoint_file import read_array
    from refineclip.evaluation.regions.head_fitting import fit_head, label_crops

    dataset = CocoPanoptic(args.data_root, args.split)
    try:
        text = read_array(args.text_embeddings).float()
    except ValueError as error:
        raise SystemExit(str(error)) from error
    if text.ndim != 2 or len(text) != len(dataset.classes):
        raise SystemExit(
            f'expected text embeddings of shape ({len(dataset.classes)}, T), one row per category '
            f'of {args.data_root}, got {tuple(text.shape)} in {args.text_embeddings}'
        )
    visual = build_clip(args.model, args.pretrained, text=False).visual.eval().to(args.device)
    images = dataset.images[: args.limit]
    crops = label_crops(visual, images, args.crop_size, args.min_area, args.device)
    for out, features in ((args.out, crops.embedding), (args.mean_token_out, crops.mean_token)):
        if out is None:
            continue
        head = fit_head(features, crops.labels, text, args.ridge)
        out.parent.mkdir(parents=True, exist_ok=True)
        head.save(out)
        hits = head.classify(features, text).argmax(1) == crops.labels
        print(
            f'{out}: fitted on {len(hits)} crops, '
            f'{float(hits.float().mean()):.3f} of them classified right'
        )


if __name__ == '__main__':
    main()
