"""Data of ``evaluate regions`` and ``evaluate spatial``: a panoptic set, and rows to hold on it."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .common import (
    add_row_arguments,
    check_writable,
    parse_rows,
    progress,
    quiet_logging,
)

if TYPE_CHECKING:
    from refineclip.datasets.coco_panoptic import CocoPanoptic
    from refineclip.distill.region_preprocessor import RegionPreprocessor
    from refineclip.evaluation.panoptic_evaluation import PanopticEvaluation


def add_panoptic_arguments(
    parser: argparse.ArgumentParser, resize: str | None, size_help: str
) -> None:
    """Add rows, data and geometry.

    Args:
        parser: Parser of the kind.
        resize: Default of ``--resize``; None where a protocol says it.
        size_help: What ``--image-size`` is by default.
    """
    parser.add_argument(
        '--data',
        type=Path,
        required=True,
        metavar='COCO_ROOT',
        help='folder with SPLIT/ and annotations/panoptic_SPLIT.json beside its PNGs',
    )
    parser.add_argument('--split', default='val2017', help='labelled split (default: val2017)')
    add_row_arguments(parser)
    parser.add_argument('--image-size', type=int, help=f'canvas side in pixels ({size_help})')
    parser.add_argument(
        '--resize',
        choices=('letterbox', 'squash'),
        default=resize,
        help=f'keep the aspect and pad, or fill the square (default: {resize or "letterbox"})',
    )
    parser.add_argument('--limit', type=int, metavar='N', help='use the first N images')
    parser.add_argument(
        '--cache-dir', type=Path, metavar='DIR', help='keep features here for the next call'
    )


class Prepared:
    """Checked input of an evaluation: rows, encoders and the data set.

    Args:
        args: Parsed command line.

    Raises:
        ValueError: If rows, sizes or limits do not fit.
        FileNotFoundError: If a file is missing.
    """

    def __init__(self, args: argparse.Namespace) -> None:
        from refineclip.datasets.coco_panoptic import CocoPanoptic
        from refineclip.evaluation.encoders import load_encoders

        quiet_logging()
        self.args = args
        self.rows = parse_rows(args.models, args.compare)
        check_writable(args.json)
        if args.limit is not None and args.limit < 1:
            raise ValueError(f'--limit: expected one or more images, got {args.limit}')
        self.dataset: CocoPanoptic = CocoPanoptic(args.data, args.split)
        self.dataset.images = self.dataset.images[: args.limit]
        if args.compare is not None and len(self.dataset) < 2:
            raise ValueError(
                f'--compare: expected two or more images to resample, got {len(self.dataset)}'
            )
        self.encoders: dict[str, Any] = load_encoders(
            self.rows,
            args.model,
            dense_mode=args.dense_mode,
            refiner_input=args.refiner_input,
            seed=args.seed,
            device=args.device,
            position_interpolation=args.position_interpolation,
        )

    @property
    def patch_size(self) -> int:
        """Side of a token in pixels; the same for all rows, which are of one architecture."""
        first = next(iter(self.encoders.values()))
        return int(getattr(first, 'visual', first).patch_size)

    def native_size(self, fallback: int) -> int:
        """Side of the images that the encoder was trained with; without a network, a fallback."""
        visuals = [e.visual for e in self.encoders.values() if hasattr(e, 'visual')]
        return int(visuals[0].native_size[0]) if visuals else fallback

    def preprocessor(self, image_size: int, **kwargs: Any) -> RegionPreprocessor:
        """Make the canvas of the rows, with the encoder's own normalisation."""
        from refineclip.distill.region_preprocessor import RegionPreprocessor

        first = next(iter(self.encoders.values()))
        if image_size < 1 or image_size % self.patch_size:
            raise ValueError(
                f'--image-size: expected a multiple of the patch {self.patch_size}, got '
                f'{image_size}'
            )
        kwargs.setdefault('crop_size', image_size)
        return RegionPreprocessor(
            mean=[255 * value for value in first.image_mean],
            std=[255 * value for value in first.image_std],
            image_size=image_size,
            image_resize=self.args.resize,
            **kwargs,
        ).to(self.args.device)

    def evaluation(self, preprocessor: RegionPreprocessor, **kwargs: Any) -> PanopticEvaluation:
        """Build the evaluation, with a progress bar."""
        from refineclip.evaluation.panoptic_evaluation import PanopticEvaluation

        track = progress(f'{len(self.dataset)} images')
        return PanopticEvaluation(
            self.dataset, preprocessor, self.patch_size, track=track, **kwargs
        )

    def settings(self, evaluation: PanopticEvaluation) -> Mapping[str, Any]:
        """Everything that decided the numbers, for the json."""
        return {
            'rows': self.rows,
            'model': self.args.model,
            'data': str(self.args.data),
            'split': self.args.split,
            'num_images': len(self.dataset),
            'preprocessing': evaluation.preprocessor.description,
            'patch_size': self.patch_size,
            'dense_mode': self.args.dense_mode,
            'refiner_input': self.args.refiner_input,
            'position_interpolation': self.args.position_interpolation,
            'min_coverage': evaluation.min_coverage,
            'seed': self.args.seed,
            'device': self.args.device,
        }
